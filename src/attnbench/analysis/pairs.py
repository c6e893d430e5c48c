"""Two arms picked from many: p and an interval that hold over all pairs at once, whoever picked them and why."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attnbench.analysis.anytime import confidence_sequence
from attnbench.analysis.course import Progress
from attnbench.analysis.plan import Plan
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.sample import Sample
from attnbench.analysis.sequential import Spending
from attnbench.analysis.stats import ALPHA, Difference, contrast, difference
from attnbench.analysis.verdicts import Contrast, contrasts, verdict_on


def picked(one: Sample, two: Sample, arms: Sequence[Sample], plan: Plan, spending: Spending | None = None) -> Contrast:
    """Two arms of a cell, of which neither is the baseline: their verdict holds over all pairs that the cell has.

    Equivalence is corrected by Bonferroni's method over all pairs; over several looks at the cell everything is.

    Args:
        arms: all arms of the cell, the two among them.
        spending: the looks at the cell; None for one look, or where every run is a look.
    """
    pairs, any_time = math.comb(len(arms), 2), plan.looks == "any"
    (alone,) = contrasts([one], two, plan, Progress(None, [[one.seeds]], [two.seeds]) if any_time else None)
    if pairs < 2:
        return alone
    one, two, known = alone.one, alone.two, alone.verdict.alone
    assert known is not None
    spending = spending or alone.verdict.spending
    share = float(spending.parts[-1]) if spending else 1.0
    if any_time:
        n = min(len(one.seeds), len(two.seeds))
        low, high = (
            confidence_sequence(one.values[:n] - two.values[:n], ALPHA / pairs) if n > 1 else (math.nan, math.nan)
        )
        found, p = replace(alone.difference, low=low, high=high), pairs * known.p_value
    else:
        values = [arm.by(plan.failures).values for arm in arms]
        found = simultaneous(one.values, two.values, values, plan.pairing, one.step, ALPHA * share)
        p = max(found.p_value, known.p_value) / share
    adjusted = min(p, 1.0), min(pairs * known.equivalence_p / share, 1.0)
    now = spending and Spending((spending.seeds[-1],), (share,), spending.planned)
    regrouped = pairs if plan.pairing == "paired" else 1  # of independent arms Games and Howell's test is corrected
    verdict = verdict_on(one, two, found, adjusted, replace(known, spending=now), plan, spending, pairs, regrouped)
    return replace(alone, difference=found, verdict=replace(verdict, simultaneous=True))


def simultaneous(
    values: np.ndarray,
    other: np.ndarray,
    arms: Sequence[np.ndarray],
    pairing: Pairing = "independent",
    unit: float = 0.0,
    level: float = ALPHA,
) -> Difference:
    """`difference` of two of k arms, with p and an interval that hold over all their pairs at once.

    Independent: the studentised range with the pair's own error and degrees of freedom (Games and Howell 1976), where
    no arm's spread counts for less than that of the arm in the middle. Without that, among thirty arms of five seeds
    some two have so little spread by chance that 15 % of studies found a difference where there was none. Never is
    more said than the two arms say alone. Paired: Bonferroni's correction over all pairs of the comparison alone.

    Args:
        values, other: those of the two arms, as for `difference`.
        arms: the values of all k arms, the two among them.
    """
    pairs = math.comb(len(arms), 2)
    alone = difference(values, other, pairing, unit, level / pairs if pairing == "paired" else level)
    if math.isnan(alone.p_value) or pairs < 2:
        return alone
    if pairing == "paired":
        return replace(alone, p_value=min(1.0, pairs * alone.p_value))
    gap, error, freedom = contrast(values, other, unit=middle_unit(arms, unit))
    p, half = _studentised(gap, error, freedom, len(arms), level)
    low, high = min(alone.low, gap - half), max(alone.high, gap + half)
    return replace(alone, low=low, high=high, p_value=max(alone.p_value, p))


def middle_unit(arms: Sequence[np.ndarray], unit: float = 0.0) -> float:
    """The unit by which `contrast` takes no arm's spread for less than that of the arm in the middle.

    Args:
        unit: the smallest step that a value can make; below it the unit is not.
    """
    variances = [float(arm.var(ddof=1)) for arm in arms if len(arm) > 1]
    return max(unit, math.sqrt(12 * float(np.median(variances)))) if variances else unit


def _studentised(gap: float, error: float, freedom: float, arms: int, level: float) -> tuple[float, float]:
    """p of a difference between two of so many means, and half its interval: both on the studentised range."""
    from scipy.stats import studentized_range

    if error == 0:
        return float(gap == 0), 0.0
    p = float(studentized_range.sf(math.sqrt(2) * abs(gap) / error, arms, freedom))
    return p, float(studentized_range.ppf(1 - level, arms, freedom)) * error / math.sqrt(2)
