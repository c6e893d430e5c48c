"""Any two of many arms: p and an interval that hold over all pairs at once, whoever picked the two and why."""

import math
from collections.abc import Sequence

import numpy as np

from attnbench.analysis.resampling import Pairing
from attnbench.analysis.stats import ALPHA, Difference, contrast, difference


def number_of_pairs(arms: int) -> int:
    """How many pairs so many arms make."""
    return math.comb(arms, 2)


def simultaneous(
    values: np.ndarray, other: np.ndarray, arms: Sequence[np.ndarray], pairing: Pairing = "independent"
) -> Difference:
    """`difference` of two of k arms, with p and a 95 % interval that hold over all their pairs at once.

    Independent: the larger p and the wider interval of two methods on the studentised range: Games and Howell's
    (1976), which takes each pair's own spread and errs where seeds are few, and Tukey and Kramer's (1956), which takes
    the spread that all arms have in common and errs where they have none; and never less than the two arms alone give.
    Paired: Bonferroni's correction over all pairs of the comparison alone.

    Args:
        values, other: those of the two arms, as for `difference`.
        arms: the values of all k arms, the two among them.
    """
    from scipy.stats import t

    alone, pairs = difference(values, other, pairing), number_of_pairs(len(arms))
    if math.isnan(alone.p_value) or pairs < 2:
        return alone
    gap, error, freedom = contrast(values, other, pairing)
    if pairing == "paired":
        half = float(t.ppf(1 - ALPHA / pairs / 2, freedom)) * error
        return _widened(alone, min(1.0, pairs * alone.p_value), half)
    common, common_freedom = pooled(arms)
    errors = [(error, freedom), (math.sqrt(common * (1 / len(values) + 1 / len(other))), common_freedom)]
    found = [_studentised(gap, *each, len(arms)) for each in errors]
    return _widened(alone, max(p for p, _ in found), max(half for _, half in found))


def pooled(arms: Sequence[np.ndarray]) -> tuple[float, float]:
    """The variance that all arms have in common, with its degrees of freedom; nan and 0 where none has two values."""
    known = [arm for arm in arms if len(arm) > 1]
    freedom = sum(len(arm) - 1 for arm in known)
    return sum(float(arm.var()) * len(arm) for arm in known) / freedom if freedom else math.nan, freedom


def _studentised(gap: float, error: float, freedom: float, arms: int) -> tuple[float, float]:
    """p of a difference among so many means, and half its simultaneous interval: both on the studentised range."""
    from scipy.stats import studentized_range

    if error == 0:
        return float(gap == 0), 0.0
    p = float(studentized_range.sf(math.sqrt(2) * abs(gap) / error, arms, freedom))
    return p, float(studentized_range.ppf(1 - ALPHA, arms, freedom)) * error / math.sqrt(2)


def _widened(alone: Difference, p: float, half: float) -> Difference:
    """The comparison with that p and half width, where they are the larger ones."""
    return Difference(
        alone.mean,
        min(alone.low, alone.mean - half),
        max(alone.high, alone.mean + half),
        max(alone.p_value, p),
        alone.n,
        alone.n_baseline,
    )
