"""Records to a comparison: arms grouped into cells, and each arm's verdict against the baseline."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnbench.analysis.stats import Difference, Estimate, crossed, estimate, standard_error, superiority
from attnbench.analysis.verdicts import Contrast, Design, Plan, Sample, contrasts
from attnbench.catalogue.registry import ATTENTION
from attnbench.spec.run import LATER, canonical
from attnbench.spec.study import Study
from attnbench.store.runs import RunRecord, Store

_ARM_FIELDS = ("attention", "site", "stages", "every", "init")


@dataclass(frozen=True)
class Arm:
    """A mechanism in a cell, with the accuracy of each seed in percent."""

    name: str
    records: tuple[RunRecord, ...]
    accuracy: Estimate
    """Estimand: this test set."""
    new_images: Estimate | None
    """Estimand: new images; None where predictions are missing."""
    contrast: Contrast | None
    """To the baseline; None for the baseline itself, or where it was not run."""

    @property
    def difference(self) -> Difference | None:
        """To the baseline, in percentage points; estimand: this test set."""
        return self.contrast.difference if self.contrast else None

    @property
    def accuracies(self) -> list[float]:
        """Test accuracy in percent, in the order of the seeds."""
        return [record.accuracy for record in self.records]


@dataclass(frozen=True)
class Cell:
    """Runs that differ in mechanism and seed only."""

    name: str
    arms: tuple[Arm, ...]
    plan: Plan

    def arm(self, name: str) -> Arm | None:
        """The arm of a mechanism, under any spelling."""
        wanted = ATTENTION.canonical(name)
        return next((arm for arm in self.arms if arm.name == wanted), None)

    def between(self, arm: Arm, other: Arm) -> Contrast:
        """Any two arms; one that the plan does not name is a family of its own."""
        if arm.contrast is not None and other.name == self.plan.baseline:
            return arm.contrast
        if other.contrast is not None and arm.name == self.plan.baseline:
            return other.contrast.mirrored()
        return contrasts([_sample(arm.name, arm.records, stream=1)], _sample(other.name, other.records), self.plan)[0]


@dataclass(frozen=True)
class Comparison:
    """What a report shows."""

    name: str
    plan: Plan
    cells: tuple[Cell, ...]
    missing: int = 0
    """Runs that the study asks for and that are not done."""
    warnings: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        """The arm that every other is compared with."""
        return self.plan.baseline


@dataclass(frozen=True)
class Overall:
    """A mechanism against the baseline over several cells."""

    arm: str
    superiority: Estimate
    """P(a run of the arm beats a run of the baseline), stratified by cell."""
    rank: float
    """Mean rank of its mean accuracy among the arms that all these cells have; 1 is the highest."""


def across(comparison: Comparison) -> list[Overall]:
    """Every mechanism that is compared in each of at least two cells; descriptive, beside the cells' own verdicts."""
    from scipy.stats import rankdata

    cells = [cell for cell in comparison.cells if any(arm.name == comparison.baseline for arm in cell.arms)]
    if len(cells) < 2:
        return []
    tables = [{arm.name: arm for arm in cell.arms} for cell in cells]
    shared = [name for name in tables[0] if all(name in table for table in tables)]
    ranks = [rankdata([-table[name].accuracy.mean for name in shared]) for table in tables]
    return [
        Overall(
            name,
            superiority([(table[name].accuracies, table[comparison.baseline].accuracies) for table in tables]),
            float(np.mean([rank[place] for rank in ranks])),
        )
        for place, name in enumerate(shared)
        if name != comparison.baseline
    ]


def compare(
    study_or_records: Study | Iterable[RunRecord], store: Store | None = None, plan: Plan | None = None
) -> Comparison:
    """Compare every arm with the baseline, cell by cell.

    Args:
        study_or_records: a study, whose runs are looked up in `store`, or records.
        store: the folder of runs; None for the default.
        plan: how records are analysed; a study's file says it itself.
    """
    if not isinstance(study_or_records, Study):
        plan = plan or Plan()
        plan = dataclasses.replace(plan, baseline=ATTENTION.canonical(plan.baseline))
        return _comparison("records", plan, list(study_or_records), 0)
    study = study_or_records
    home = store or Store.default()
    planned = study.runs()
    records = [record for spec in planned if (record := home.record(spec.id)) is not None]
    missing = len(planned) - sum(record.done for record in records)
    declared = Plan(ATTENTION.canonical(study.baseline), study.margin, study.pairing)
    return _comparison(study.name, declared, records, missing)


def designs(study: Study) -> list[Design]:
    """The different designs of a study's cells, before anything is trained; cells without a comparison left out."""
    arms: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for spec in study.runs():
        form = canonical(spec)
        arms[repr(_shared(form))].add(tuple(str(form.get(name)) for name in _ARM_FIELDS))
    baseline = ATTENTION.canonical(study.baseline)
    compared = [found for found in arms.values() if baseline in {arm[0] for arm in found}]
    families = sorted({len(found) - 1 for found in compared} - {0})
    return [Design(len(study.seed_list), family, study.margin, study.pairing) for family in families]


def _comparison(name: str, plan: Plan, records: list[RunRecord], missing: int) -> Comparison:
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.done:
            groups[repr(_cell_form(record))].append(record)
    titles = _titles([_cell_form(members[0]) for members in groups.values()])
    cells = [_cell(title, members, plan) for title, members in zip(titles, groups.values(), strict=True)]
    warnings = [
        f"run {record.id}, {_placed(record)} seed {record.spec['seed']} failed: {record.error}; "
        "means are over the runs that did not"
        for record in records
        if not record.done
    ]
    for cell, members in zip(cells, groups.values(), strict=True):
        warnings += [*_mixed(cell.name, members), *_against_pairs(cell)]
    return Comparison(name, plan, tuple(cells), missing, tuple(warnings))


def _cell(title: str, records: list[RunRecord], plan: Plan) -> Cell:
    members: dict[str, list[RunRecord]] = defaultdict(list)
    records = sorted(records, key=lambda record: record.spec["seed"])
    for name, record in zip(_arm_names(records), records, strict=True):
        members[name].append(record)
    order = sorted(members, key=lambda name: (name != plan.baseline, name))
    samples = {name: _sample(name, members[name], stream) for stream, name in enumerate(order)}
    others = [samples[name] for name in order if name != plan.baseline]
    found = contrasts(others, samples[plan.baseline], plan) if plan.baseline in samples else []
    against = {contrast.arm: contrast for contrast in found}
    arms = [
        Arm(name, tuple(members[name]), estimate(sample.accuracies), _new_images(sample), against.get(name))
        for name, sample in samples.items()
    ]
    return Cell(title, tuple(arms), plan)


def _sample(name: str, records: Iterable[RunRecord], stream: int = 0) -> Sample:
    """What the statistics see of an arm."""
    runs = list(records)
    found = [record.predictions for record in runs]
    seeds, accuracies = tuple(r.spec["seed"] for r in runs), np.array([r.accuracy for r in runs])
    known = [predictions for predictions in found if predictions is not None]
    if len(known) < len(runs):
        return Sample(name, seeds, accuracies, stream=stream)
    return Sample(name, seeds, accuracies, np.stack([each.predicted for each in known]), known[0].labels, stream)


def _new_images(sample: Sample) -> Estimate | None:
    n = len(sample.seeds)
    if sample.draws is None:
        return None
    return crossed(sample.draws, float(sample.accuracies.mean()), standard_error(sample.accuracies), n - 1, n)


def _against_pairs(cell: Cell) -> list[str]:
    """Where equal seeds go credibly against each other, the independent test makes more errors than it says."""
    return [
        f"{cell.name}: the accuracies of {arm.name} and {arm.contrast.other} are negatively correlated over seeds "
        f"(r {arm.contrast.correlation.r:+.2f}), and the test of independent arms makes more than 5 % of errors then"
        for arm in cell.arms
        if arm.contrast and arm.contrast.pairing == "independent" and arm.contrast.correlation.high < 0
    ]


def _cell_form(record: RunRecord) -> dict[str, object]:
    """Everything that must be equal for two records to be pooled: recipe, versions, data and split."""
    return {**_shared(record.canonical), "data": record.data_fingerprint, "split": record.split_fingerprint}


def _shared(form: Mapping[str, Any]) -> dict[str, object]:
    """What the arms of a cell have in common, of the canonical form of one of its runs."""
    whole = {**form, **{name: form.get(name, nothing) for name, nothing in LATER.items()}}
    kept = {name: value for name, value in whole.items() if name not in (*_ARM_FIELDS, "seed", "versions")}
    return kept | {f"{name} version": v for name, v in form["versions"].items() if name != "attention"}


def _arm_names(records: list[RunRecord]) -> list[str]:
    """Each record's mechanism, with its place where that is not its card's own, and its version where several are."""
    forms = [record.canonical for record in records]
    names = [_placed(record) for record in records]
    versions: dict[str, set[object]] = defaultdict(set)
    for name, form in zip(names, forms, strict=True):
        versions[name].add(form["versions"]["attention"])
    return [
        f"{name} version {form['versions']['attention']}" if len(versions[name]) > 1 else name
        for name, form in zip(names, forms, strict=True)
    ]


def _placed(record: RunRecord) -> str:
    form = record.canonical
    place = [f"site={form['site']}"] if form["site"] not in (None, record.cards["attention"].get("site")) else []
    place += [f"stages={','.join(map(str, form['stages']))}"] if form["stages"] else []
    place += [f"{name}={form[name]}" for name in ("every", "init") if name in form]
    return " ".join([str(form["attention"]), *place])


def _titles(forms: list[dict[str, object]]) -> list[str]:
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


def _mixed(title: str, records: list[RunRecord]) -> list[str]:
    """Warnings about records that were made under different numerics or by different code."""
    warnings = []
    for what, of in (
        ("numerics", lambda r: r.numerics),
        ("package code", lambda r: r.environment.get("code")),
    ):
        kinds = {repr(of(record)) for record in records}
        if len(kinds) > 1:
            differ = _differing([of(record) for record in records]) if what == "numerics" else ""
            warnings.append(f"{title}: records of {len(kinds)} different {what} are pooled{differ}")
    return warnings


def _differing(numerics: list[dict[str, object]]) -> str:
    known = dict.fromkeys(name for one in numerics for name in one)
    names = [name for name in known if len({repr(one.get(name)) for one in numerics}) > 1]
    return f" ({', '.join(names)})" if names else ""
