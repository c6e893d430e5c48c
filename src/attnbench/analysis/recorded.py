"""Records to cells: which are pooled, what their cells are called, and what a reader must know of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attnbench.analysis.cells import Cell, cell_of
from attnbench.analysis.verdicts import Plan, Sample
from attnbench.catalogue.places import built_in_sentence
from attnbench.spec.arm import FIELDS, ArmKey, labels
from attnbench.spec.run import LATER
from attnbench.store.runs import RunRecord

LIMITS = ("train_fraction", "train_limit", "test_limit")
"""Fields by which a run falls short of the whole data set."""


def recorded_cells(records: Sequence[RunRecord], plan: Plan) -> list[Cell]:
    """The cells of done runs: records that share everything but mechanism and seed, each told apart by its name."""
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[repr(_cell_form(record))].append(record)
    names = _names([_cell_form(members[0]) for members in groups.values()])
    return [_cell(name, members, plan) for name, members in zip(names, groups.values(), strict=True)]


def label_of(record: RunRecord) -> str:
    """The label of a record's arm."""
    return ArmKey.of(record.canonical).label(_own_site(record))


def shared(form: Mapping[str, Any]) -> dict[str, object]:
    """What the arms of a cell have in common, of the canonical form of one of its runs."""
    whole = {**form, **{name: form.get(name, nothing) for name, nothing in LATER.items()}}
    kept = {name: value for name, value in whole.items() if name not in (*FIELDS, "seed", "versions")}
    return kept | {f"{name} version": v for name, v in form["versions"].items() if name != "attention"}


def record_warnings(cell: Cell) -> list[str]:
    """What a reader must know of how the runs of a cell were made."""
    records = [record for arm in cell.arms for record in arm.records]
    return [*_built_in(records), *_mixed(cell.name, records)]


def _cell(name: str, records: Sequence[RunRecord], plan: Plan) -> Cell:
    members: dict[ArmKey, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.spec["seed"]):
        members[ArmKey.of(record.canonical)].append(record)
    names = labels({key: _own_site(found[0]) for key, found in members.items()})
    samples = {key: _sample(names[key], found) for key, found in members.items()}
    first = records[0]
    epochs, recipe = f"{first.spec['epochs']} epochs", f"recipe {first.recipe or 'as given'}"
    limited = [f"{name} {first.spec[name]}" for name in LIMITS if first.spec[name] not in (None, 1)]
    about = ", ".join([epochs, recipe, f"{first.test['images']:,} test images", *limited])
    return cell_of(name, samples, plan, f"{recipe}, {epochs}", about, members)


def _sample(name: str, runs: Sequence[RunRecord]) -> Sample:
    """What the statistics see of an arm."""
    found = [record.predictions for record in runs]
    seeds, accuracies = tuple(r.spec["seed"] for r in runs), np.array([r.accuracy for r in runs])
    known = [predictions for predictions in found if predictions is not None]
    if len(known) < len(runs):
        return Sample(name, seeds, accuracies)
    return Sample(name, seeds, accuracies, np.stack([each.predicted for each in known]), known[0].labels)


def _own_site(record: RunRecord) -> str | None:
    """The place that a mechanism has by itself, by the card in the record."""
    site: str | None = record.cards["attention"].get("site")
    return site


def _cell_form(record: RunRecord) -> dict[str, object]:
    """Everything that must be equal for two records to be pooled: recipe, versions, data and split."""
    return {**shared(record.canonical), "data": record.data_fingerprint, "split": record.split_fingerprint}


def _names(forms: list[dict[str, object]]) -> list[str]:
    """Data set and backbone, and what else tells cells apart; versions and fingerprints only where they must."""
    varied = [name for name in (forms[0] if forms else ()) if len({repr(form[name]) for form in forms}) > 1]
    late = [name for name in varied if name in ("data", "split") or name.endswith(" version")]
    early = [name for name in varied if name not in ("dataset", "backbone", *late)]

    def title(form: dict[str, object], names: list[str]) -> str:
        return ", ".join([f"{form['dataset']}, {form['backbone']}", *(f"{name} {form[name]}" for name in names)])

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
    if (count := len({record.environment.get("code") for record in records})) > 1:
        warnings.append(f"{title}: records of {count} different versions of the numerical code are pooled")
    return warnings


def _differing(numerics: list[dict[str, object]]) -> str:
    known = dict.fromkeys(name for one in numerics for name in one)
    names = [name for name in known if len({repr(one.get(name)) for one in numerics}) > 1]
    return f" ({', '.join(names)})" if names else ""
