"""A cell: the runs that differ in mechanism and seed only, as arms with their verdicts against the baseline."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.accuracies import accuracy, accuracy_on_new_images
from attnbench.analysis.stats import Difference, Estimate, estimate
from attnbench.analysis.verdicts import Contrast, Plan, Sample, contrasts
from attnbench.catalogue.places import built_in_sentence
from attnbench.errors import BadReference, StoreProblem
from attnbench.spec.arm import ArmKey, labels, meant
from attnbench.store.runs import RunRecord


@dataclass(frozen=True)
class Arm:
    """A mechanism in a cell, with the accuracy of each seed in percent."""

    key: ArmKey
    name: str
    """Its label, for display."""
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

    @property
    def control(self) -> bool:
        """Whether it is `none` or a control rather than an attention mechanism."""
        return bool(self.records[0].cards["attention"].get("control"))


@dataclass(frozen=True)
class Cell:
    """Runs that differ in mechanism and seed only; the baseline comes first."""

    name: str
    arms: tuple[Arm, ...]
    plan: Plan
    baseline: Arm | None
    """None where it has no done run, so that nothing can be compared."""

    def arm(self, asked: str) -> Arm:
        """The arm of that label, or of that mechanism under any spelling.

        Raises:
            StoreProblem: there is none, or several.
        """
        try:
            wanted = meant(asked, {arm.key: arm.name for arm in self.arms})
        except BadReference as problem:
            raise StoreProblem(f"{self.name}: of the done runs, {problem}") from None
        return next(arm for arm in self.arms if arm.key == wanted)

    def beside(self, arm: Arm, attention: str) -> Arm | None:
        """Another mechanism at the place of an arm, if it was run there."""
        wanted = arm.key.beside(attention)
        return next((one for one in self.arms if one.key.beside(one.key.attention) == wanted), None)

    def between(self, arm: Arm, other: Arm) -> Contrast:
        """Any two arms; two of which neither is the baseline are a family of their own."""
        if arm.contrast is not None and other is self.baseline:
            return arm.contrast
        if other.contrast is not None and arm is self.baseline:
            return other.contrast.mirrored()
        return contrasts([_sample(arm.name, arm.records)], _sample(other.name, other.records), self.plan)[0]


def cell_of(title: str, records: list[RunRecord], plan: Plan) -> Cell:
    """Group records that share everything but mechanism and seed into arms, and compare each with the baseline."""
    members: dict[ArmKey, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.spec["seed"]):
        members[ArmKey.of(record.canonical)].append(record)
    names = labels({key: _own_site(found[0]) for key, found in members.items()})
    baseline = baseline_of(names, plan.baseline)
    order = sorted(members, key=lambda key: (key != baseline, names[key]))
    samples = {key: _sample(names[key], members[key]) for key in order}
    others = [key for key in order if key != baseline]
    found = contrasts([samples[key] for key in others], samples[baseline], plan) if baseline else []
    against = dict(zip(others, found, strict=bool(baseline)))
    arms = [
        Arm(key, names[key], tuple(members[key]), _here(sample), _new_images(sample), against.get(key))
        for key, sample in samples.items()
    ]
    return Cell(title, tuple(arms), plan, arms[0] if baseline else None)


def baseline_of(arms: Mapping[ArmKey, str], asked: str) -> ArmKey | None:
    """The arm that others are compared with; None where it is not there, or not the only one."""
    try:
        return meant(asked, arms)
    except BadReference:
        return None


def cell_warnings(cell: Cell, records: list[RunRecord]) -> list[str]:
    """What a reader must know of a cell beside its verdicts."""
    return [*_without_baseline(cell), *_built_in(records), *_mixed(cell.name, records), *_against_pairs(cell)]


def label_of(record: RunRecord) -> str:
    """The label of a record's arm."""
    return ArmKey.of(record.canonical).label(_own_site(record))


def _own_site(record: RunRecord) -> str | None:
    """The place that a mechanism has by itself, by the card in the record."""
    site: str | None = record.cards["attention"].get("site")
    return site


def _sample(name: str, records: Iterable[RunRecord]) -> Sample:
    """What the statistics see of an arm."""
    runs = list(records)
    seeds, accuracies = tuple(r.spec["seed"] for r in runs), np.array([r.accuracy for r in runs])
    found, images = [record.predictions for record in runs], runs[0].test["images"]
    known = [predictions for predictions in found if predictions is not None]
    if len(known) < len(runs):
        return Sample(name, seeds, accuracies, images=images)
    return Sample(name, seeds, accuracies, np.stack([each.predicted for each in known]), known[0].labels, images)


def _here(sample: Sample) -> Estimate:
    return accuracy(sample.accuracies, sample.images) if sample.images else estimate(sample.accuracies)


def _new_images(sample: Sample) -> Estimate | None:
    return None if sample.right is None else accuracy_on_new_images(sample.right)


def _without_baseline(cell: Cell) -> list[str]:
    """Say that nothing can be compared, where that is so."""
    if cell.baseline is not None or not cell.arms:
        return []
    try:
        cell.arm(cell.plan.baseline)
    except StoreProblem as problem:
        return [f"{problem}; without its baseline nothing in this cell is compared"]
    return []


def _built_in(records: list[RunRecord]) -> list[str]:
    """Say where the backbone holds attention of its own: no arm is without any then."""
    found = (built_in_sentence(str(r.canonical["backbone"]), r.input.get("built_in", {})) for r in records)
    return [sentence for sentence in dict.fromkeys(found) if sentence]


def _against_pairs(cell: Cell) -> list[str]:
    """Where equal seeds go credibly against each other, the independent test makes more errors than it says."""
    return [
        f"{cell.name}: the accuracies of {arm.name} and {arm.contrast.other} are negatively correlated over seeds "
        f"(r {arm.contrast.correlation.r:+.2f}), and the test of independent arms makes more than 5 % of errors then"
        for arm in cell.arms
        if arm.contrast and arm.contrast.pairing == "independent" and arm.contrast.correlation.high < 0
    ]


def _mixed(title: str, records: list[RunRecord]) -> list[str]:
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
