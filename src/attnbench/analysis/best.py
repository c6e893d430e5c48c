"""Which of many arms cannot be told from the best, and how far luck alone carries the largest of many means."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from attnbench.analysis.pairs import pooled
from attnbench.analysis.resampling import Values
from attnbench.analysis.stats import ALPHA, contrast


def among_best(arms: Sequence[np.ndarray]) -> list[bool]:
    """Which independent arms cannot be told from the best: with 95 % confidence the truly best is among them.

    Multiple comparisons with the best (Gupta 1965, Hsu 1984): an arm is out where another is better by a one-sided
    test at a level that holds for one arm against all its rivals. p is the larger of Dunnett's (1955), with the spread
    that all arms have in common, and the same with Welch's error and degrees of freedom of the two arms: each alone
    errs, where spreads differ and where seeds are few.

    Args:
        arms: the values of each, larger is better. A single value neither is out nor puts out.
    """
    rivals, (variance, freedom) = len(arms) - 1, pooled(arms)

    def beats(other: np.ndarray, arm: np.ndarray) -> bool:
        gap, error, own_freedom = contrast(other, arm)
        if math.isnan(error):
            return False
        common = math.sqrt(variance * (1 / len(arm) + 1 / len(other)))
        tests = (common, freedom), (error, own_freedom)
        return all(_significant(gap, size, of, rivals) for size, of in tests)

    return _unbeaten(arms, beats)


def among_best_pairs(rows: Sequence[np.ndarray]) -> list[bool]:
    """The same over pairs: Student's one-sided t of the differences at equal seeds, with Sidak's correction.

    Args:
        rows: the values of each arm, equal seeds at equal places, nan where a seed is missing.
    """
    from scipy.stats import t

    level = 1 - (1 - ALPHA) ** (1 / max(len(rows) - 1, 1))

    def beats(other: np.ndarray, arm: np.ndarray) -> bool:
        both = ~np.isnan(other + arm)
        gap, error, freedom = contrast(other[both], arm[both], "paired")
        if math.isnan(error) or gap <= 0:
            return False
        return error == 0 or bool(t.sf(gap / error, freedom) < level)

    return _unbeaten(rows, beats)


def dunnett_p(gap: float, error: float, freedom: float, rivals: int) -> float:
    """One-sided p of a difference that is the largest of so many arms' with one, by Dunnett (1955).

    The differences go together by 1/2, as where all arms have the same standard error. Normal over the one arm's error
    by Gauss and Hermite, and over 400 equally likely sizes of the spread.
    """
    from scipy.special import ndtr

    if gap <= 0:
        return 1.0
    if error == 0:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    below = ndtr(math.sqrt(2) * gap / error * _spreads(freedom)[:, None] + nodes) ** rivals
    return float(1 - below.mean(0) @ weights / weights.sum())


def expected_maximum(errors: Values) -> float:
    """What the largest of m independent normal means is expected to be, whose truths are all 0.

    Args:
        errors: their standard errors. The largest of 30 equal ones lies 2.04 of them above 0.
    """
    from scipy.integrate import quad
    from scipy.special import ndtr

    sizes = np.asarray(errors, float)
    unit = float(sizes.max())
    if not unit > 0:
        return 0.0

    def excess(x: float) -> float:
        """P(largest > x) - P(largest < -x), whose integral is the mean."""
        return float(1 - np.prod(ndtr(x * unit / sizes)) - np.prod(ndtr(-x * unit / sizes)))

    return unit * float(quad(excess, 0, 10)[0])


def _significant(gap: float, error: float, freedom: float, rivals: int) -> bool:
    """Whether `dunnett_p` is below 0.05, computed only where its bounds, a single t's p and Sidak's, leave it open."""
    from scipy.special import stdtr

    if gap <= 0 or error == 0:
        return gap > 0
    alone = float(stdtr(freedom, -gap / error))
    if alone >= ALPHA or 1 - (1 - alone) ** rivals < ALPHA:
        return alone < ALPHA
    return dunnett_p(gap, error, freedom, rivals) < ALPHA


def _unbeaten(arms: Sequence[np.ndarray], beats: Callable[[np.ndarray, np.ndarray], bool]) -> list[bool]:
    """Of which arms no other says that it beats them; the likeliest is asked first."""
    known = sorted((arm for arm in arms if len(arm)), key=lambda arm: -np.nanmean(arm))
    return [not any(beats(other, arm) for other in known if other is not arm) for arm in arms]


@lru_cache(maxsize=4096)
def _spreads(freedom: float) -> np.ndarray:
    """Measured over true standard deviation at 400 equally likely places."""
    from scipy.stats import chi2

    found: np.ndarray = np.sqrt(chi2.ppf((np.arange(400) + 0.5) / 400, freedom) / freedom)
    return found
