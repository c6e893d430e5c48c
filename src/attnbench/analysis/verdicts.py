"""The scores of arms to verdicts: better, worse, equivalent or undecided, each with its evidence."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from attnbench.analysis.course import Course, Progress, Reading
from attnbench.analysis.plan import Plan
from attnbench.analysis.power import fewest_seeds, further_seeds
from attnbench.analysis.resampling import Pairing, bootstrap_variance
from attnbench.analysis.sample import Sample
from attnbench.analysis.sequential import Spending, nominal_level
from attnbench.analysis.stats import (
    ALPHA,
    Correlation,
    Difference,
    Estimate,
    churn,
    contrast,
    correlation,
    crossed,
    holm,
    superiority,
)

Kind = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Waiting:
    """Why there is no verdict yet: at the next look every arm that is open must have so many seeds."""

    at: int
    """Seeds an arm at the next look."""
    done: int
    """How many of them the arm with the fewest has."""
    arm: str
    """That arm."""


@dataclass(frozen=True)
class Verdict:
    """The answer about one arm and another; both p values hold over all looks, and are Holm's over the family.

    *better* or *worse*: p below 0.05, and an interval without 0; else *equivalent*: p of the two one-sided tests
    below 0.05, at a look at which there could have been a difference; else *undecided*.
    """

    kind: Kind
    p_value: float
    equivalence_p: float
    family: int
    """Comparisons that share the 5 % error."""
    margin: float
    spending: Spending | None = None
    """How the looks up to that of the verdict share the error; None where every run is a look."""
    alone: Reading | None = None
    """The p values of this comparison alone, over all looks, and how many runs these saw."""
    needed: int | None = None
    """Where undecided because no outcome could have decided: the fewest seeds an arm at which one could."""
    further: int | None = None
    """Where undecided: about how many more seeds an arm decide; None where a thousand in all do not, or unknown."""
    waiting: Waiting | None = None
    """Where undecided because there is no verdict at these results: for what it waits."""
    simultaneous: bool = False
    """Whether the two may have been picked from all pairs of a cell: p and interval hold over all of them at once."""

    @property
    def within_margin(self) -> bool:
        """Whether equivalence passes, beside a difference or alone."""
        return self.equivalence_p < ALPHA


@dataclass(frozen=True)
class Contrast:
    """An arm against another, with all that was measured of the two."""

    one: Sample = field(repr=False)
    two: Sample = field(repr=False)
    """The runs that are compared: at equal seeds where these are pairs."""
    difference: Difference
    """In the unit of the scores, for accuracies percentage points; estimand: this test set."""
    verdict: Verdict
    pairing: Pairing
    matched: tuple[Sample, Sample] = field(repr=False)
    """Both arms at the seeds that both have."""
    seen: tuple[Sample, Sample] = field(repr=False)
    """All that had come of both by then, failed runs too."""
    told_from: str = ""
    """Where it is told the other way round, the label of what all arms of its family are compared with."""

    @property
    def arm(self) -> str:
        """The label of the one."""
        return self.one.name

    @property
    def other(self) -> str:
        """The label of what it is compared with."""
        return self.two.name

    @property
    def common(self) -> str:
        """The label of what all arms of its family are compared with."""
        return self.told_from or self.other

    @property
    def compared(self) -> tuple[np.ndarray, np.ndarray]:
        """The scores that the difference is of; where every run is a look, equally many of both."""
        return self.one.values[: self.difference.n], self.two.values[: self.difference.n_baseline]

    @cached_property
    def new_images(self) -> Estimate | None:
        """The difference for seeds and images like these; None where predictions are missing."""
        rights, n = (self.one.right, self.two.right), min(len(self.one.seeds), len(self.two.seeds))
        if rights[0] is None or rights[1] is None or n < 2:
            return None
        drawn = (rights[0] - rights[1],) if self.pairing == "paired" else rights
        return crossed(bootstrap_variance(*drawn), *contrast(self.one.values, self.two.values, self.pairing), n)

    @cached_property
    def correlation(self) -> Correlation:
        """Over the seeds that both have."""
        return correlation(*(sample.values for sample in self.matched))

    @cached_property
    def superiority(self) -> Estimate:
        """P(a run of the arm beats a run of the other); here `n` is 1, the one data set."""
        return superiority([(self.one.merits, self.two.merits)])

    @cached_property
    def churn(self) -> Estimate | None:
        """Share of images, in percent, on which the two disagree at equal seeds; None where predictions are missing."""
        one, two = self.matched
        said = [seed for seed in one.seeds if seed not in one.failed | two.failed]
        one, two = one.at(said), two.at(said)
        if not said or one.predicted is None or two.predicted is None:
            return None
        return churn(one.predicted, two.predicted)

    def mirrored(self) -> "Contrast":
        """The same comparison told the other way round."""
        gap = self.difference
        swapped: dict[Kind, Kind] = {"better": "worse", "worse": "better"}
        return replace(
            self,
            one=self.two,
            two=self.one,
            difference=Difference(-gap.mean, -gap.high, -gap.low, gap.p_value, gap.n_baseline, gap.n),
            verdict=replace(self.verdict, kind=swapped.get(self.verdict.kind, self.verdict.kind)),
            matched=self.matched[::-1],
            seen=self.seen[::-1],
            told_from=self.common,
        )


def contrasts(arms: Sequence[Sample], other: Sample, plan: Plan, progress: Progress | None = None) -> list[Contrast]:
    """Every arm against `other`: one family, whose two kinds of tests are each corrected by Holm's method.

    Failed runs are analysed by the plan's rule.

    Args:
        arms, other: their runs in the order in which they came.
        progress: the looks up to that at which they are seen; None for one look at everything.
    """
    if not arms:
        return []
    progress = progress or Progress.once(arms, other)
    seen = [(arm, other) for arm in arms]
    arms, other = [arm.by(plan.failures) for arm in arms], other.by(plan.failures)
    matched = [_paired(arm, other) for arm in arms]
    pairs = matched if plan.matched else [(arm, other) for arm in arms]
    courses = [_course(one, two, plan, progress, place) for place, (one, two) in enumerate(pairs)]
    readings = [_reading(*pair, plan, progress, place, courses[place]) for place, pair in enumerate(pairs)]
    settled = progress.settled
    family = len(arms) + len(settled)
    adjusted = holm([*(reading.p_value for reading in readings), *(p for p, _ in settled)])
    equal = holm([*(reading.equivalence_p for reading in readings), *(p for _, p in settled)])
    gaps = [course.difference() for course in courses]
    verdicts = [
        verdict_on(*pair, gap, both, reading, plan, progress.spending, family, family)
        for pair, gap, both, reading in zip(pairs, gaps, zip(adjusted, equal, strict=True), readings, strict=False)
    ]
    return [
        Contrast(*pair, gap, verdict, plan.pairing, equal_seeds, both)
        for pair, gap, verdict, equal_seeds, both in zip(pairs, gaps, verdicts, matched, seen, strict=True)
    ]


def _paired(one: Sample, two: Sample) -> tuple[Sample, Sample]:
    """Both arms at the seeds that both have."""
    others = set(two.seeds)
    shared = [seed for seed in one.seeds if seed in others]
    return one.at(shared), two.at(shared)


def _course(one: Sample, two: Sample, plan: Plan, progress: Progress, place: int) -> Course:
    """Of the looks that saw both, and anything new of them; the next such look may spend what the others leave."""
    sizes = progress.sizes(one, two, place)
    new = [look for look, size in enumerate(sizes) if min(size) and (not look or size != sizes[look - 1])]
    new = new or [len(sizes) - 1]
    spending = progress.spending and progress.spending.at(new)
    return Course(
        one.values, two.values, tuple(sizes[look] for look in new), spending, plan.margin, plan.pairing, one.step
    )


def _reading(one: Sample, two: Sample, plan: Plan, progress: Progress, place: int, course: Course) -> Reading:
    """Both p values; where failed runs of the baseline make an arm look better, also without them: the larger ones.

    Failed runs that score like others make arms no more alike.
    """
    found = course.reading()
    if any(each.mild and each.failed for each in (one, two)):
        found = replace(found, equivalence_p=1.0)
    if not two.failed or one.merits.mean() <= two.merits.mean():
        return found
    spared = two.by("drop")
    pair = _paired(one, spared) if plan.matched else (one, spared)
    without = _course(*pair, plan, progress, place).reading()
    return replace(
        found,
        p_value=_larger(found.p_value, without.p_value),
        equivalence_p=_larger(found.equivalence_p, without.equivalence_p),
    )


def _larger(p: float, other: float) -> float:
    """The larger of two p values, 1 where one is not known."""
    return 1.0 if math.isnan(p) or math.isnan(other) else max(p, other)


def verdict_on(
    one: Sample,
    two: Sample,
    gap: Difference,
    adjusted: tuple[float, float],
    alone: Reading,
    plan: Plan,
    spending: Spending | None,
    family: int,
    regrouped: int,
) -> Verdict:
    """The rule, with both p values corrected over the family, and what it would take where it decides nothing.

    Args:
        regrouped: over how many comparisons the permutation test is corrected.
    """
    p, same = adjusted
    kind: Kind = "undecided"
    needed = fewest_seeds(alone.spending, regrouped, plan.pairing, alone.sizes)
    if p < ALPHA and not gap.low <= 0 <= gap.high:
        kind = "better" if (gap.mean > 0) == one.measure.higher_is_better else "worse"
    elif same < ALPHA and needed is None:
        kind = "equivalent"
    found = Verdict(kind, p, same, family, plan.margin, spending, alone)
    if kind != "undecided":
        return found
    return replace(found, needed=needed, further=_further(one, two, plan, spending, family))


def _further(one: Sample, two: Sample, plan: Plan, spending: Spending | None, family: int) -> int | None:
    """How many more seeds an arm decide: at one more look, or in a study like this one that is planned anew."""
    _, error, freedom = contrast(one.values, two.values, plan.pairing, one.step)
    if math.isnan(error) or spending is None:
        return None
    seeds = min(len(one.seeds), len(two.seeds))
    if plan.pairing == "paired":
        spread = error * math.sqrt(seeds)
    else:
        spread = math.sqrt((one.values.var(ddof=1) + two.values.var(ddof=1)) / 2)
    levels = None if spending.planned else functools.partial(_levels_later, spending.seeds, family)
    return further_seeds(spread, freedom, seeds, plan.margin, family, plan.pairing, levels)


@functools.lru_cache(maxsize=4096)
def _levels_later(seen: tuple[int, ...], family: int, seeds: int) -> tuple[float, float]:
    """Levels of the tests of difference and of equivalence at a look that comes after those seen."""
    later = Spending.open([*(n for n in seen if n < seeds), seeds])
    later = later.at(dict(zip(later.seeds, itertools.count(), strict=False)).values())  # of equal looks the last
    return (
        nominal_level(later.seeds, later.parts, ALPHA / family, 2),
        nominal_level(later.seeds, later.parts, ALPHA / family, 1),
    )
