"""Records to cells: which are pooled, what their cells are called, and what a reader must know of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from attnbench.analysis.cells import Cell, baseline_of, cell_of
from attnbench.analysis.looks import History
from attnbench.analysis.plan import Plan
from attnbench.analysis.sample import Sample
from attnbench.catalogue.places import built_in_sentence
from attnbench.errors import StoreProblem
from attnbench.spec.arm import ArmKey, cell_key, labels, mechanism, shared, text_of
from attnbench.store.predictions import AGAIN
from attnbench.store.runs import RunRecord
from attnbench.store.studies import Seen, merged_seen

LIMITS = ("train_fraction", "train_limit", "test_limit")
"""Fields by which a run falls short of the whole data set."""


Planned = Mapping[str, Mapping[ArmKey, Sequence[int]]]
"""The seeds that a study asks for, by cell and arm, in order."""


def recorded_cells(
    records: Sequence[RunRecord], plan: Plan, planned: Planned = MappingProxyType({}), seen: Sequence[Seen] = ()
) -> list[Cell]:
    """The cells of records: those that share everything but mechanism and seed, each cell told apart by its name.

    Args:
        records: of runs that are done, and of runs that failed, which count where others of their cell are done.
        planned: the seeds that a study asks for; nothing where the records are all there is.
        seen: what was seen of the cells at earlier looks.
    """
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in (record for record in records if record.done):
        groups[repr(_cell_form(record, plan))].append(record)
    names = _names([_cell_form(members[0], plan) for members in groups.values()])
    failed: dict[str, list[RunRecord]] = defaultdict(list)
    for record in (record for record in records if not record.done):
        failed[planned_key(record, plan)].append(record)
    return [
        _cell(name, [*members, *failed[planned_key(members[0], plan)]], plan, planned, seen)
        for name, members in zip(names, groups.values(), strict=True)
    ]


def label_of(record: RunRecord) -> str:
    """The label of a record's arm."""
    return ArmKey.of(record.canonical).label(_own_site(record))


def seen_now(cells: Sequence[Cell]) -> Seen:
    """What somebody sees who reads the verdicts of these cells.

    Arms that wait for one are left out, and so are those of which a verdict of an earlier look stands.
    """
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for cell in cells:
        told = [arm for arm in cell.arms if arm.contrast and not arm.contrast.verdict.waiting and not arm.unused]
        if told and cell.baseline and cell.baseline.records:
            beside = {seed for arm in told for seed in arm.seeds} if cell.waiting else set(cell.baseline.seeds)
            seeds = {text_of(arm.key): arm.seeds for arm in told}
            base = {text_of(cell.baseline.key): tuple(seed for seed in cell.baseline.seeds if seed in beside)}
            found[cell_seen(cell.baseline.records[0], cell.plan)] = base | seeds
    return found


def times_told(cells: Sequence[Cell], wholes: Sequence[Seen]) -> int:
    """How often all cells together were told, this time included; at looks of a plan, how often of other cells.

    Args:
        wholes: what was known of all at earlier looks.
    """
    now = merged_seen(wholes[-1] if wholes else {}, seen_now(cells))
    if any(cell.plan.looks is not None for cell in cells):
        return len({frozenset(each) for each in [*wholes, now]})
    return len({repr(sorted((cell, sorted(arms.items())) for cell, arms in each.items())) for each in [*wholes, now]})


def absent(records: Sequence[RunRecord], plan: Plan, planned: Planned) -> frozenset[ArmKey]:
    """The arms of which a planned cell has no run yet."""
    begun = {(planned_key(record, plan), ArmKey.of(record.canonical)) for record in records}
    return frozenset(arm for cell, arms in planned.items() for arm in arms if (cell, arm) not in begun)


def record_warnings(cell: Cell) -> list[str]:
    """What a reader must know of how the runs of a cell were made."""
    records = [record for arm in cell.arms for record in arm.records]
    return [*_built_in(records), *_mixed(cell.name, records), *_rising(cell)]


def _cell(name: str, records: Sequence[RunRecord], plan: Plan, planned: Planned, seen: Sequence[Seen]) -> Cell:
    members: dict[ArmKey, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.spec["seed"]):
        members[ArmKey.of(record.canonical)].append(record)
    names = labels({key: _own_site(found[0]) for key, found in members.items()})
    _check_images(records)
    first = next(record for record in records if record.done)
    done = {key: [record for record in found if record.done] for key, found in members.items()}
    baseline = baseline_of(names, plan.baseline)
    samples = {
        key: _sample(names[key], found, chance(first))
        for key, found in members.items()
        if done[key] or key != baseline  # nothing is compared with a baseline of which every run failed
    }
    asked, cell = planned.get(planned_key(first, plan), {}), cell_seen(first, plan)
    history = History(
        {key: tuple(seeds) for key, seeds in asked.items()},
        [{key: arms[key.text] for key in members if key.text in arms} for at in seen if (arms := at.get(cell))],
    )
    epochs = f"{first.spec['epochs']} epochs"
    recipe = ", ".join([f"recipe {first.recipe or 'as given'}", *(f"{name} tuned for each arm" for name in plan.tuned)])
    limited = [f"{name} {first.spec[name]}" for name in LIMITS if first.spec.get(name) not in (None, 1)]
    about = ", ".join([epochs, recipe, f"{first.test['images']:,} test images", *limited])
    controls = {
        key for key, found in members.items() if found[0].cards["attention"].get("control") and mechanism(key) != "none"
    }
    return cell_of(name, samples, plan, f"{recipe}, {epochs}", about, done, history, controls)


def _sample(name: str, runs: Sequence[RunRecord], failed_score: float) -> Sample:
    """What the statistics see of an arm; a failed run scores chance level."""
    seeds = tuple(record.spec["seed"] for record in runs)
    accuracies = np.array([record.accuracy if record.done else failed_score for record in runs])
    failed = frozenset(record.spec["seed"] for record in runs if not record.done)
    found = [record.predictions for record in runs if record.done]
    known = [predictions for predictions in found if predictions is not None]
    images = max((record.test["images"] for record in runs if record.done), default=0)
    if len(known) < len(found) or not known:
        return Sample(name, seeds, accuracies, images=images, failed=failed)
    said, labels_ = iter(known), known[0].labels
    nothing = np.full(len(labels_), -1)
    predicted = np.stack([next(said).predicted if record.done else nothing for record in runs])
    return Sample(name, seeds, accuracies, predicted, labels_, images=images, failed=failed)


def _check_images(records: Sequence[RunRecord]) -> None:
    """Refuse a cell whose runs, which strangers may have made, predict different images.

    Raises:
        StoreProblem: predictions that cannot be read, or are of other images than the first ones.
    """
    known = [predictions for record in records if record.done and (predictions := record.predictions) is not None]
    for each in known[1:]:
        if not np.array_equal(each.labels, known[0].labels):
            raise StoreProblem(f"{each.file} is of other images than {known[0].file}, of the same cell; {AGAIN}")


def chance(record: RunRecord) -> float:
    """The accuracy in percent of guessing among the classes of a run; 0 where nothing says how many those are."""
    classes = record.input.get("classes") or record.cards.get("dataset", {}).get("classes")
    return 100 / classes if isinstance(classes, int) and classes > 0 else 0.0


def planned_key(record: RunRecord, plan: Plan) -> str:
    """The cell of a run as a study plans it."""
    return cell_key(shared(record.canonical, plan.tuned))


def cell_seen(record: RunRecord, plan: Plan) -> str:
    """The cell of a run with the images that it saw: runs of different studies can be told beside each other in it."""
    return cell_key(_cell_form(record, plan))


def _own_site(record: RunRecord) -> str | None:
    """The place that a mechanism has by itself, by the card in the record."""
    site: str | None = record.cards["attention"].get("site")
    return site


def _cell_form(record: RunRecord, plan: Plan) -> dict[str, object]:
    """Everything that must be equal for two records to be pooled: recipe, versions, data and split."""
    return {**shared(record.canonical, plan.tuned), "data": record.data_fingerprint, "split": record.split_fingerprint}


def _names(forms: list[dict[str, object]]) -> list[str]:
    """Data set and backbone, and what else tells cells apart; versions and fingerprints only where they must."""
    known = dict.fromkeys(name for form in forms for name in form)
    varied = [name for name in known if len({repr(form.get(name)) for form in forms}) > 1]
    late = [name for name in varied if name in ("data", "split") or name.endswith(" version")]
    early = [name for name in varied if name not in ("dataset", "backbone", *late)]

    def title(form: dict[str, object], names: list[str]) -> str:
        return ", ".join([f"{form['dataset']}, {form['backbone']}", *(f"{name} {form.get(name)}" for name in names)])

    short = [title(form, early) for form in forms]
    return [
        text if short.count(text) == 1 else title(form, early + late) for text, form in zip(short, forms, strict=True)
    ]


def _built_in(records: Sequence[RunRecord]) -> list[str]:
    """Say where the backbone holds attention of its own: no arm is without any then."""
    found = (built_in_sentence(str(r.canonical["backbone"]), r.input.get("built_in", {})) for r in records)
    return [sentence for sentence in dict.fromkeys(found) if sentence]


def _mixed(title: str, records: Sequence[RunRecord]) -> list[str]:
    """Warnings about records that were made under different numerics or by different numerical code."""
    numerics = [record.numerics for record in records]
    warnings = []
    if (count := len({repr(one) for one in numerics})) > 1:
        warnings.append(f"{title}: records of {count} different numerics are pooled{_differing(numerics)}")
    if (count := len({str(record.environment.get("code")) for record in records})) > 1:
        warnings.append(f"{title}: records of {count} different versions of the numerical code are pooled")
    if (count := len({str(record.initial.get("sha256")) for record in records})) > 1:
        warnings.append(f"{title}: records that started from {count} different weights of one name are pooled")
    return warnings


def _rising(cell: Cell) -> list[str]:
    """Arms whose accuracy still rose by more than the margin in the last epoch: longer training may tell otherwise."""
    found = []
    for arm in cell.arms:
        for split in ("val", "train"):
            gains = [_last_gain(record, f"{split}_accuracy") for record in arm.records]
            if gains and not np.isnan(gains).any():
                found.append((float(np.mean(gains)), split, arm.name))
                break
    steep = sorted((each for each in found if each[0] > cell.plan.margin), reverse=True)
    if not steep:
        return []
    gain, split, name = steep[0]
    kind = "validation" if split == "val" else "training"
    return [
        f"{cell.name}: curves still rise at the end ({len(steep)} of {len(found)} arms; the {kind} accuracy of {name} "
        f"by {cell.measure.amount(round(gain, 1))} in the last epoch): longer training may rank the arms otherwise"
    ]


def _last_gain(record: RunRecord, name: str) -> float:
    """By how much an accuracy rose in the last epoch; nan where that is not known."""
    last = [point.get(name, np.nan) for point in record.curves[-2:]]
    return float(last[1] - last[0]) if len(last) == 2 else float("nan")


def _differing(numerics: list[dict[str, object]]) -> str:
    known = dict.fromkeys(name for one in numerics for name in one)
    names = [name for name in known if len({repr(one.get(name)) for one in numerics}) > 1]
    return f" ({', '.join(names)})" if names else ""
