"""The course of a comparison: what each look at an arm and the baseline says, over all looks up to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.anytime import any_time_equivalence_p, any_time_p, confidence_sequence
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.sequential import Looks, nominal_level, nominal_p_over, permutation_p_over
from attnbench.analysis.stats import ALPHA, Difference, difference, equivalence_p, t_p


@dataclass(frozen=True)
class Reading:
    """What one look says; both p values hold over all looks of the plan, and are of this comparison alone."""

    n: int
    m: int
    """How many runs of the arm and of the baseline it has seen."""
    p_value: float
    equivalence_p: float


@dataclass(frozen=True)
class Course:
    """The values of an arm and the baseline in the order in which they came, and how many of them the looks saw."""

    one: np.ndarray
    two: np.ndarray
    sizes: tuple[tuple[int, int], ...]
    """Of each look that was reached."""
    looks: Looks | None
    """None where there is a look after each pair of runs."""
    margin: float
    pairing: Pairing = "independent"
    unit: float = 0.0
    """The smallest step that a value can make."""

    def readings(self) -> list[Reading]:
        """What the looks say, in their order."""
        if self.looks is None:
            gaps = self._gaps()
            return [
                Reading(n, n, p, same) if n > 1 else Reading(n, n, math.nan, math.nan)
                for n, (p, same) in enumerate(
                    zip(any_time_p(gaps), any_time_equivalence_p(gaps, self.margin), strict=True), start=1
                )
            ]
        found = zip(self.sizes, self._p_values(), self._equivalence_p_values(), strict=True)
        return [Reading(n, m, p, same) for (n, m), p, same in found]

    def difference(self, look: int) -> Difference:
        """The difference at a look, with the p of that look's own test, and an interval that holds over all looks."""
        n, m = self.readings_sizes[look]
        one, two = self.one[:n], self.two[:m]
        if self.looks is None:
            found = difference(one, two, self.pairing, self.unit)
            low, high = confidence_sequence(self._gaps()[:n], ALPHA)
            return Difference(found.mean, low, high, found.p_value, n, m)
        level = nominal_level(self._information()[: look + 1], self.looks.parts[: look + 1], ALPHA, 2)
        return difference(one, two, self.pairing, self.unit, level)

    @property
    def readings_sizes(self) -> Sequence[tuple[int, int]]:
        """How many runs each reading has seen."""
        return [(n, n) for n in range(1, self._pairs + 1)] if self.looks is None else self.sizes

    @property
    def _pairs(self) -> int:
        return min(len(self.one), len(self.two))

    def _gaps(self) -> np.ndarray:
        gaps: np.ndarray = self.one[: self._pairs] - self.two[: self._pairs]
        return gaps

    def _information(self) -> list[float]:
        """1 / the squared standard error at each look, in units of the spread."""
        if self.pairing == "paired":
            return [float(n) for n, _ in self.sizes]
        return [n * m / (n + m) for n, m in self.sizes]

    def _p_values(self) -> list[float]:
        """Of the difference: the larger one of the permutation and the t test; of pairs the sign-flip test's."""
        assert self.looks is not None
        testable = [place for place, (n, m) in enumerate(self.sizes) if min(n, m) > 1]
        sizes, parts = [self.sizes[place] for place in testable], self.looks.parts[testable]
        by_t = [0.0] * len(self.sizes)
        if self.pairing == "independent":
            by_t = self._over([t_p(self.one[:n], self.two[:m], unit=self.unit) for n, m in self.sizes], 2)
        found = [math.nan] * len(self.sizes)
        exact = permutation_p_over(self.one, self.two, sizes, parts, self.pairing) if sizes else []
        for place, p in zip(testable, exact, strict=True):
            found[place] = max(p, by_t[place])
        return found

    def _equivalence_p_values(self) -> list[float]:
        return self._over(
            [equivalence_p(self.one[:n], self.two[:m], self.margin, self.pairing, self.unit) for n, m in self.sizes], 1
        )

    def _over(self, p_values: list[float], sides: int) -> list[float]:
        assert self.looks is not None
        found = nominal_p_over(
            p_values, self._information(), self.looks.parts[: len(self.sizes)], 2 if sides == 2 else 1
        )
        return [math.nan if math.isnan(own) and p == 1 else p for own, p in zip(p_values, found, strict=True)]
