"""The course of a comparison: what each look at an arm and the baseline says, over all looks up to it."""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnbench.analysis.anytime import any_time_equivalence_p, any_time_p, confidence_sequence
from attnbench.analysis.power import Sizes
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.sample import Sample
from attnbench.analysis.sequential import Sides, Spending, nominal_level, nominal_p_over, permutation_p_over
from attnbench.analysis.stats import ALPHA, Difference, difference, equivalence_p, t_p

UNKNOWN = (math.nan, math.nan)


@dataclass(frozen=True)
class Reading:
    """What one look says; both p values hold over all looks of the plan, and are of this comparison alone."""

    sizes: Sizes
    """How many runs of the arm and of the baseline it saw, and the looks before it at which there was a test."""
    spending: Spending | None
    """How the looks that saw anything new of the two share the error; None where every run is a look."""
    p_value: float
    equivalence_p: float


@dataclass(frozen=True)
class Progress:
    """The looks so far, the present one included."""

    spending: Spending | None
    """How they share the error; None where every run is a look."""
    arms: Sequence[Sequence[Container[int]]]
    """Of each look the seeds of each arm."""
    other: Sequence[Container[int]]
    """Of each look the seeds of what they are compared with."""
    settled: Sequence[tuple[float, float]] = ()
    """Both p values, uncorrected, of each arm that was decided before: they stay in the family."""

    @classmethod
    def once(cls, arms: Sequence[Sample], other: Sample) -> "Progress":
        """One look at everything, which spends the whole error."""
        most = max(1, *(min(len(arm.seeds), len(other.seeds)) for arm in arms))
        return cls(Spending.plan([most]), [[frozenset(arm.seeds) for arm in arms]], [frozenset(other.seeds)])

    def sizes(self, one: Sample, two: Sample, place: int) -> tuple[tuple[int, int], ...]:
        """How many runs of the arm at a place and of the other each look has seen."""
        return tuple(
            (sum(seed in arms[place] for seed in one.seeds), sum(seed in other for seed in two.seeds))
            for arms, other in zip(self.arms, self.other, strict=True)
        )


@dataclass(frozen=True)
class Course:
    """The values of an arm and the baseline in the order in which they came, up to a look, and what each look saw."""

    one: np.ndarray
    two: np.ndarray
    sizes: Sizes
    """How many of each the looks saw, up to the present one."""
    spending: Spending | None
    """The same looks; None where there is one after each pair of runs."""
    margin: float
    pairing: Pairing = "independent"
    unit: float = 0.0
    """The smallest step that a value can make."""

    def reading(self) -> Reading:
        """What the last look says, over all up to it."""
        if self.spending is None:
            gaps = self._gaps()
            both = (any_time_p(gaps)[-1], any_time_equivalence_p(gaps, self.margin)[-1]) if len(gaps) > 1 else UNKNOWN
            return Reading(self.sizes, None, *both)
        tested = (*(size for size in self.sizes[:-1] if min(size) > 1), self.sizes[-1])
        return Reading(tested, self.spending, self._p_value(), self._equivalence_p())

    def difference(self) -> Difference:
        """The difference at the last look, with the p of that look's own test; the interval holds over all looks."""
        one, two = self.one, self.two
        if self.spending is None:
            one, two = one[: self._pairs], two[: self._pairs]
            found = difference(one, two, self.pairing, self.unit)
            low, high = confidence_sequence(self._gaps(), ALPHA) if self._pairs > 1 else (math.nan, math.nan)
            return replace(found, low=low, high=high)
        level = nominal_level(self._information(), self.spending.parts, ALPHA, 2) if min(self.sizes[-1]) > 1 else ALPHA
        return difference(one, two, self.pairing, self.unit, level)

    @property
    def _pairs(self) -> int:
        return min(len(self.one), len(self.two))

    def _gaps(self) -> np.ndarray:
        gaps: np.ndarray = self.one[: self._pairs] - self.two[: self._pairs]
        return gaps

    @property
    def _tested(self) -> list[int]:
        """The looks at which there is something to test."""
        return [place for place, (n, m) in enumerate(self.sizes) if min(n, m) > 1]

    def _information(self) -> list[float]:
        """1 / the squared standard error at each look, in units of the spread."""
        if self.pairing == "paired":
            return [float(n) for n, _ in self.sizes]
        return [n * m / (n + m) if n + m else 0.0 for n, m in self.sizes]

    def _p_value(self) -> float:
        """Of the difference: the larger one of the permutation and the t test; of pairs the sign-flip test's."""
        assert self.spending is not None
        if len(self.sizes) - 1 not in self._tested:
            return math.nan
        sizes, parts = [self.sizes[place] for place in self._tested], self.spending.parts[self._tested]
        exact = permutation_p_over(self.one, self.two, sizes, parts, self.pairing)
        if self.pairing == "paired":
            return exact
        return max(exact, self._over([t_p(self.one[:n], self.two[:m], unit=self.unit) for n, m in self.sizes], 2))

    def _equivalence_p(self) -> float:
        return self._over(
            [equivalence_p(self.one[:n], self.two[:m], self.margin, self.pairing, self.unit) for n, m in self.sizes], 1
        )

    def _over(self, p_values: list[float], sides: Sides) -> float:
        assert self.spending is not None
        if math.isnan(p_values[-1]):
            return math.nan
        return nominal_p_over(p_values, self._information(), self.spending.parts, sides)
