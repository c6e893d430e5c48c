"""p values that stay true however often one looks: at planned looks, at looks that came later, or after every seed.

A *look* is a moment at which verdicts are given. One test at 5 % a look is wrong far more often than 5 % over all of
them. Here the looks share the 5 %: each may spend a part, so that a p value holds over all looks together, may be
read at any of them, and may stop the training.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attnbench.analysis.resampling import TIE, Pairing, Values, flipped_t, permutation_p, regrouped_t, sign_flip_p

Sides = Literal[1, 2]
FIRST = 0.8
"""Part of the error that the first look of a study without planned looks spends; the rest is for seeds added later."""
SHAPE = 2.0
"""By n seeds planned looks spend (n / last n) ** SHAPE of the error (Kim and DeMets 1987); chosen by simulation."""


@dataclass(frozen=True)
class Spending:
    """How the looks of a study share the error."""

    seeds: tuple[int, ...]
    """Seeds an arm at each look, growing."""
    spent: tuple[float, ...]
    """The part of the error spent up to and with each look, growing, at most 1."""
    planned: bool = True
    """Whether the looks were declared before the first run."""

    @classmethod
    def plan(cls, seeds: Sequence[int]) -> "Spending":
        """Looks declared beforehand; the last one spends what is left."""
        return cls(tuple(seeds), tuple((n / seeds[-1]) ** SHAPE for n in seeds))

    @classmethod
    def open(cls, seeds: Sequence[int]) -> "Spending":
        """Looks as they came: the first spends four fifths, each later one half of what is left."""
        return cls(tuple(seeds), tuple(1 - (1 - FIRST) / 2**k for k in range(len(seeds))), planned=False)

    @property
    def parts(self) -> np.ndarray:
        """What each look alone may spend."""
        return np.diff(self.spent, prepend=0.0)

    def first(self, count: int) -> "Spending":
        """The first few of them."""
        return self.at(range(count))

    def at(self, looks: Iterable[int]) -> "Spending":
        """Some of them, of which each has spent no more than it would have."""
        kept = list(looks)
        return Spending(
            tuple(self.seeds[look] for look in kept), tuple(self.spent[look] for look in kept), self.planned
        )

    def merged(self, reachable: Callable[[int], float], level: float) -> "Spending":
        """Without the looks whose part of `level` is below the smallest p at their seeds: the next one gets it.

        Args:
            reachable: the smallest p at so many seeds an arm.
            level: the error that the family's first step may make.
        """
        kept: list[tuple[int, float]] = []
        for n, spent in zip(self.seeds, self.spent, strict=True):
            if reachable(n) <= level * (spent - (kept[-1][1] if kept else 0.0)):
                kept.append((n, spent))
        return Spending(tuple(n for n, _ in kept), tuple(spent for _, spent in kept), self.planned)


def permutation_p_over(
    one: Values, two: Values, sizes: Sequence[tuple[int, int]], parts: np.ndarray, pairing: Pairing = "independent"
) -> float:
    """Two-sided p of the permutation test at the last look, holding over all looks up to it.

    Runs are regrouped within what each look added, so that the law of the statistics of all looks together is exact:
    a test at level g crosses at a look where, of all regroupings that have not crossed before, no more than the part
    of g which that look may spend are as far out. p is the smallest g at which the runs themselves have crossed.

    Args:
        one, two: N and M numbers in the order in which they came; equal seeds at equal places where paired.
        sizes: how many of each the looks have seen, growing.
        parts: what each look may spend, as a part of the whole.
    """
    one, two = (values[:size] for values, size in zip((one, two), sizes[-1], strict=True))
    if len(sizes) == 1:  # the usual test, with a smaller share of the error
        alone = sign_flip_p(np.subtract(one, two)) if pairing == "paired" else permutation_p(one, two)
        return min(1.0, alone / float(parts[0]))
    if pairing == "paired":
        return _smallest_level(flipped_t(np.subtract(one, two), [n for n, _ in sizes]), parts)
    return _smallest_level(regrouped_t(one, two, sizes), parts)


def _smallest_level(law: np.ndarray, parts: np.ndarray) -> float:
    """The smallest level at which the first row crosses by the last look, to a thousandth of itself; 1 if at none.

    Args:
        law: R x looks, how far out each regrouping is; the first row is what was seen.
    """
    total, low, high = len(law), 1 / len(law), 1.0
    if not _crosses(law, parts, high, total):
        return 1.0
    while high > low * 1.001:
        middle = math.sqrt(low * high)
        if _crosses(law, parts, middle, total):
            high = middle
            law = law[_may_cross(law, parts, high, total)]
        else:
            low = middle
    return high


def _crosses(law: np.ndarray, parts: np.ndarray, level: float, total: int) -> bool:
    """Whether the first row crosses by the last look, in the test at a level.

    Args:
        law: of all rows, those that may cross before or beside the first.
        total: number of all rows.
    """
    left = law
    for look, part in enumerate(parts):
        budget = int(level * part * total + TIE)
        if budget >= len(left):
            return True
        place = len(left) - budget - 1
        bound = np.partition(left[:, look], place)[place] * (1 + TIE) + TIE
        if left[0, look] > bound:
            return True
        left = left[left[:, look] <= bound]
    return False


def _may_cross(law: np.ndarray, parts: np.ndarray, level: float, total: int) -> np.ndarray:
    """The rows that a test at this level or a lower one can stop: at some look among the farthest that it may spend."""
    kept = np.zeros(len(law), bool)
    for look, spent in enumerate(np.cumsum(parts)):
        place = len(law) - int(level * spent * total) - 2
        kept |= law[:, look] >= np.partition(law[:, look], place)[place] * (1 - TIE) - TIE if place > 0 else True
    kept[0] = True
    return kept


def nominal_p_over(p_values: Sequence[float], information: Sequence[float], parts: np.ndarray, sides: Sides) -> float:
    """p at the last look, holding over all looks up to it, from the p values of each look's own test.

    The looks' statistics go together as those of a sum that grows (Jennison and Turnbull 2000, chapter 7).

    Args:
        p_values: of a test that knows nothing of other looks, such as Welch's; two-sided or one-sided.
        information: how much each look has seen, in any unit; 1 / the squared standard error.
        parts: what each look may spend, as a part of the whole.
    """
    if len(p_values) == 1:
        return min(1.0, p_values[0] / float(parts[0]))
    table = np.log(_levels(_ratios(information), tuple(parts), sides))
    known = [(look, math.log(max(p, 1e-300))) for look, p in enumerate(p_values) if not math.isnan(p)]
    return min(math.exp(float(np.interp(p, table[:, look], np.log(_GRID), right=0.0))) for look, p in known)


def nominal_level(
    information: Sequence[float], parts: Sequence[float] | np.ndarray, level: float, sides: Sides
) -> float:
    """The level of the last look's own test, where the test over all looks has the given one."""
    if len(parts) == 1:
        return level * float(parts[0])
    return float(_bounds_p(_ratios(information), tuple(float(part) for part in parts), level, sides)[-1])


_GRID = np.geomspace(1e-6, 0.999, 40)
"""Levels of the test over all looks at which those of the single looks are computed."""


def _ratios(information: Sequence[float]) -> tuple[float, ...]:
    """Rounded, so that the same plan is computed once."""
    return tuple(round(value / information[-1], 6) for value in information)


@functools.lru_cache(maxsize=64)
def _levels(information: tuple[float, ...], parts: tuple[float, ...], sides: Sides) -> np.ndarray:
    """Levels of the single looks: grid x looks."""
    found = np.array([_bounds_p(information, parts, float(level), sides) for level in _GRID])
    return np.maximum.accumulate(np.maximum(found, 1e-300) * (1 + 1e-12 * np.arange(len(_GRID)))[:, None], axis=0)


def _beyond(sums: np.ndarray, weights: np.ndarray, step: float, scale: float, wanted: float, z: float) -> float:
    """By how much the share of sums that lie beyond z standard deviations after a step exceeds what is wanted."""
    from scipy.special import ndtr

    return float(weights @ ndtr((sums - z * scale) / step)) - wanted


@functools.lru_cache(maxsize=1024)
def _bounds_p(
    information: tuple[float, ...], parts: tuple[float, ...], level: float, sides: Sides
) -> tuple[float, ...]:
    """Level of each look's own test, by recursive integration (Armitage, McPherson and Rowe 1969).

    The growing sum of the studies that have not stopped is carried from look to look: its density at nodes that lie
    between the bounds of the look before.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    sums, weights, before, found = np.zeros(1), np.ones(1), 0.0, []
    for now, part in zip(information, parts, strict=True):
        step, scale = math.sqrt(max(now - before, 1e-9)), math.sqrt(now)

        excess = functools.partial(_beyond, sums, weights, step, scale, level * part / sides)

        bound = FAR if excess(FAR) > 0 else float(brentq(excess, -FAR, FAR, xtol=1e-10))
        found.append(min(1.0, sides * float(ndtr(-bound))))
        low = -bound if sides == 2 else -FAR
        nodes = (low + (bound - low) * (_NODES + 1) / 2) * scale
        density = np.exp(-(((nodes[:, None] - sums) / step) ** 2) / 2) @ weights / (step * math.sqrt(2 * math.pi))
        sums, weights, before = nodes, density * _WEIGHTS * (bound - low) / 2 * scale, now
    return tuple(found)


FAR = 9.0
"""Standard normal values beyond this do not occur."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)
