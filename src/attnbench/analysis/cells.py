"""A cell: runs that differ in arm and seed only, as arms with their scores and their verdicts against the baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from attnbench.analysis.measure import Measure
from attnbench.analysis.stats import Difference, Estimate, crossed, estimate, standard_error
from attnbench.analysis.verdicts import Contrast, Plan, Sample, contrasts
from attnbench.errors import BadReference, StoreProblem
from attnbench.spec.arm import ArmKey, K, Key, meant
from attnbench.store.runs import RunRecord


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared in a cell, with the score of each seed."""

    key: Key
    sample: Sample = field(repr=False)
    score: Estimate
    """Mean over seeds; estimand: this test set."""
    new_images: Estimate | None
    """Estimand: new images; None where predictions are missing."""
    contrast: Contrast | None
    """To the baseline; None for the baseline itself, or where it was not run."""
    records: tuple[RunRecord, ...] = field(default=(), repr=False)
    """In the order of the seeds; empty where only scores are known."""

    @property
    def name(self) -> str:
        """Its label, for display."""
        return self.sample.name

    @property
    def difference(self) -> Difference | None:
        """To the baseline; estimand: this test set."""
        return self.contrast.difference if self.contrast else None

    @property
    def values(self) -> list[float]:
        """The scores, in the order of the seeds."""
        return [float(value) for value in self.sample.values]

    @property
    def control(self) -> bool:
        """Whether it is `none` or a control rather than an attention mechanism."""
        return any(record.cards["attention"].get("control") for record in self.records[:1])


@dataclass(frozen=True)
class Cell:
    """Runs that differ in arm and seed only; the baseline comes first."""

    name: str
    arms: tuple[Arm, ...]
    plan: Plan
    baseline: Arm | None
    """None where it has no done run, so that nothing can be compared."""
    regime: str = ""
    """What its verdicts are about beside its name, in few words; may be empty."""
    about: str = ""
    """The same with everything by which it falls short of the whole."""

    @property
    def measure(self) -> Measure:
        """What its runs score."""
        return self.arms[0].sample.measure

    @property
    def recorded(self) -> bool:
        """Whether more than scores is known of its runs: their records."""
        return all(arm.records for arm in self.arms)

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
        if not isinstance(arm.key, ArmKey):
            return None
        wanted = arm.key.beside(attention)
        known = ((one, one.key) for one in self.arms if isinstance(one.key, ArmKey))
        return next((one for one, key in known if key.beside(key.attention) == wanted), None)

    def between(self, arm: Arm, other: Arm) -> Contrast:
        """Any two arms; two of which neither is the baseline are a family of their own."""
        if arm.contrast is not None and other is self.baseline:
            return arm.contrast
        if other.contrast is not None and arm is self.baseline:
            return other.contrast.mirrored()
        return contrasts([replace(arm.sample, stream=1)], replace(other.sample, stream=0), self.plan)[0]


def cell_of(
    name: str,
    samples: Mapping[K, Sample],
    plan: Plan,
    regime: str = "",
    about: str = "",
    records: Mapping[K, Sequence[RunRecord]] = MappingProxyType({}),
) -> Cell:
    """Compare each arm of a cell with the baseline.

    Args:
        name, regime, about: as in `Cell`.
        samples: the scores of each arm, all of one measure.
        records: those of the same runs, in the same order, where there are any.
    """
    names = {key: sample.name for key, sample in samples.items()}
    baseline = baseline_of(names, plan.baseline)
    order = sorted(samples, key=lambda key: (key != baseline, names[key]))
    drawn = {key: replace(samples[key], stream=stream) for stream, key in enumerate(order)}
    others = [key for key in order if key != baseline]
    found = contrasts([drawn[key] for key in others], drawn[baseline], plan) if baseline is not None else []
    against = dict(zip(others, found, strict=baseline is not None))
    arms = [
        Arm(key, sample, estimate(sample.values), _new_images(sample), against.get(key), tuple(records.get(key, ())))
        for key, sample in drawn.items()
    ]
    return Cell(name, tuple(arms), plan, arms[0] if baseline is not None else None, regime, about)


def baseline_of(arms: Mapping[K, str], asked: str) -> K | None:
    """The arm that others are compared with; None where it is not there, or not the only one."""
    try:
        return meant(asked, arms)
    except BadReference:
        return None


def cell_warnings(cell: Cell) -> list[str]:
    """What a reader must know of the scores of a cell beside its verdicts."""
    return [*_without_baseline(cell), *_against_pairs(cell)]


def _new_images(sample: Sample) -> Estimate | None:
    n = len(sample.seeds)
    if sample.draws is None:
        return None
    return crossed(sample.draws, float(sample.values.mean()), standard_error(sample.values), n - 1, n)


def _without_baseline(cell: Cell) -> list[str]:
    """Say that nothing can be compared, where that is so."""
    if cell.baseline is not None or not cell.arms:
        return []
    try:
        cell.arm(cell.plan.baseline)
    except StoreProblem as problem:
        return [f"{problem}; without its baseline nothing in this cell is compared"]
    return []


def _against_pairs(cell: Cell) -> list[str]:
    """Where equal seeds go credibly against each other, the independent test makes more errors than it says."""
    return [
        f"{cell.name}: the {cell.measure.plural} of {arm.name} and {arm.contrast.other} are negatively correlated over "
        f"seeds (r {arm.contrast.correlation.r:+.2f}), and the test of independent arms makes more than 5 % of errors "
        "then"
        for arm in cell.arms
        if arm.contrast and arm.contrast.pairing == "independent" and arm.contrast.correlation.high < 0
    ]
