"""A cell: runs that differ in arm and seed only, as arms with their scores and their verdicts against the baseline."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from attnbench.analysis.accuracies import accuracy, accuracy_on_new_images
from attnbench.analysis.looks import History, Stand, follow, unripe
from attnbench.analysis.measure import Measure
from attnbench.analysis.pairs import picked
from attnbench.analysis.plan import Plan
from attnbench.analysis.sample import Sample
from attnbench.analysis.sequential import Spending
from attnbench.analysis.stats import ALPHA, Difference, Estimate, estimate, holm
from attnbench.analysis.verdicts import Contrast, Waiting
from attnbench.errors import BadReference, StoreProblem
from attnbench.spec.arm import ArmKey, K, Key, meant
from attnbench.store.runs import RunRecord

NOTHING: History[Any] = History()


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
    """Of its runs that did not fail, in the order of the seeds; empty where only scores are known."""
    failed: tuple[int, ...] = ()
    """Seeds of its runs that failed, whether they score something or are left out."""
    unused: int = 0
    """Results beyond the look that decided it."""
    control: bool = False
    """Whether it is a control, which nobody would use; the plain network, which anybody may, is none."""

    @property
    def recorded(self) -> bool:
        """Whether its runs were trained here, so that more than scores may be known of them."""
        return isinstance(self.key, ArmKey)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the results that its verdict is about, with those that are left out because they failed."""
        return tuple(sorted({*self.sample.seeds, *self.failed}))

    @property
    def runs(self) -> list[tuple[int, float, RunRecord | None]]:
        """Seed, score and, where there is one, record of each run that has a score."""
        known = {record.spec["seed"]: record for record in self.records}
        return [(seed, value, known.get(seed)) for seed, value in zip(self.sample.seeds, self.values, strict=True)]

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
    waiting: Waiting | None = None
    """For what the arms wait that are not decided; None where there is no further look."""

    @property
    def measure(self) -> Measure:
        """What its runs score."""
        return self.arms[0].sample.measure

    @property
    def dataset(self) -> str:
        """Whose images its runs saw; a cell of scores is taken for a data set of its own."""
        records = (record for arm in self.arms for record in arm.records)
        return next((str(record.canonical["dataset"]) for record in records), self.name)

    @property
    def recorded(self) -> bool:
        """Whether its runs were trained here, so that more than scores is known of them: their records."""
        return any(arm.records for arm in self.arms)

    @property
    def spending(self) -> Spending | None:
        """How the looks at it so far share the error; None without any, or where every run is a look."""
        found = [arm.contrast.verdict.spending for arm in self.arms if arm.contrast]
        return max((spending for spending in found if spending), key=lambda each: len(each.seeds), default=None)

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
        """Any two arms; two of which neither is the baseline are taken for any of all pairs."""
        if arm.contrast is not None and other is self.baseline:
            return arm.contrast
        if other.contrast is not None and arm is self.baseline:
            return other.contrast.mirrored()
        found = picked(arm.sample, other.sample, [each.sample for each in self.arms], self.plan, self.spending)
        if self.baseline is None:  # nothing is kept of a look at such a cell, so that there is none
            return unripe(found, Waiting(max(len(each.seeds) for each in self.arms), 0, self.plan.baseline))
        early = self.waiting and any(one.contrast and one.contrast.verdict.waiting for one in (arm, other))
        return unripe(found, self.waiting) if self.waiting and early else found


def cell_of(
    name: str,
    samples: Mapping[K, Sample],
    plan: Plan,
    regime: str = "",
    about: str = "",
    records: Mapping[K, Sequence[RunRecord]] = MappingProxyType({}),
    history: History[K] = NOTHING,
    controls: Collection[K] = (),
) -> Cell:
    """Compare each arm of a cell with the baseline, at the looks that there are.

    Args:
        name, regime, about: as in `Cell`.
        samples: the scores of each arm, all of one measure.
        records: those of the same runs, where there are any.
        history: which seeds were planned, and which were seen before.
        controls: the arms that are a control.
    """
    names = {key: sample.name for key, sample in samples.items()}
    baseline = baseline_of(names, plan.baseline)
    order = sorted(samples, key=lambda key: (key != baseline, bool(records) and not records.get(key), names[key]))
    every = {key: samples[key] for key in order}
    stand = Stand(every, {}, None)
    if baseline is not None:
        stand = follow(every, baseline, plan, history.agenda(every, baseline, plan))
    arms = [
        replace(
            _arm(key, stand.samples[key], plan, records.get(key, ())),
            contrast=stand.contrasts.get(key),
            unused=len(results.seeds) - len(stand.samples[key].seeds),
            control=key in controls,
        )
        for key, results in every.items()
        if stand.samples[key].by(plan.failures).seeds
    ]
    compared = next((arm for arm in arms if arm.key == baseline), None)
    return Cell(name, tuple(arms), plan, compared, regime, about, stand.waiting)


def _arm(key: Key, results: Sample, plan: Plan, records: Sequence[RunRecord]) -> Arm:
    """An arm by those of its results that its verdict is about."""
    sample = results.by(plan.failures)
    own = tuple(record for record in records if record.spec["seed"] in sample.seeds)
    failed = tuple(seed for seed in results.seeds if seed in results.failed)
    return Arm(key, sample, _here(sample), _new_images(sample), None, own, failed)


def baseline_of(arms: Mapping[K, str], asked: str) -> K | None:
    """The arm that others are compared with; None where it is not there, or not the only one."""
    try:
        return meant(asked, arms)
    except BadReference:
        return None


def cell_warnings(cell: Cell) -> list[str]:
    """What a reader must know of the scores of a cell beside its verdicts."""
    return [*_without_baseline(cell), *_unused(cell), *_against_pairs(cell)]


def _here(sample: Sample) -> Estimate:
    return accuracy(sample.values, sample.images) if sample.images else estimate(sample.values)


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


def _unused(cell: Cell) -> list[str]:
    """Results that no verdict is about: an earlier look decided, or the last one was before them."""
    return [
        f"{cell.name}: the verdict on {arm.name} is about its first {arm.score.n} seeds, "
        f"and its {arm.unused} later runs are not used"
        for arm in cell.arms
        if arm.unused and arm is not cell.baseline
    ]


def _against_pairs(cell: Cell) -> list[str]:
    """Where equal seeds go credibly against each other, the independent test makes more errors than it says.

    Credibly: by Holm's method over the arms, for among many some correlation is far below 0 by chance.
    """
    found = [arm.contrast for arm in cell.arms if arm.contrast and arm.contrast.pairing == "independent"]
    adjusted = holm([each.correlation.p_value if each.correlation.r < 0 else 1.0 for each in found])
    return [
        f"{cell.name}: the {cell.measure.plural} of {each.arm} and {each.other} are negatively correlated over "
        f"seeds (r {each.correlation.r:+.2f}), and the test of independent arms makes more than 5 % of errors then"
        for each, p in zip(found, adjusted, strict=True)
        if p < ALPHA
    ]
