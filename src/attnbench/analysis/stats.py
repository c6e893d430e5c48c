"""Numbers to statements: arrays in, a small frozen value out; no files, no torch, no printing.

Two estimands. *This test set*: the expected accuracy over seeds on these very images; seeds vary. *New images*: the
same on images like these; seeds and images vary, crossed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.laws import t_quantile
from attnbench.analysis.resampling import TIE, Pairing, Values, permutation_p, sign_flip_p

ALPHA = 0.05
"""1 - 0.95: of intervals, and of the errors that a family of verdicts may make."""
FEWEST = 3
"""Seeds an arm below which nothing is called equivalent."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, which is nan where `n` cannot tell."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """The difference of two means over seeds, with its 95 % interval and p; paired or not, as it was asked for."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int
    n_baseline: int


@dataclass(frozen=True)
class Correlation:
    """How two arms' values go together over equal seeds, and what analysing them as pairs would have saved."""

    r: float
    low: float
    high: float
    saved: float
    """Variance of the independent difference over that of the paired one: 2 means half the runs, 1 nothing."""
    saved_low: float
    saved_high: float
    n: int

    @property
    def p_value(self) -> float:
        """Two-sided p of Fisher's transform, which goes with the interval of r; nan below four pairs."""
        from scipy.special import ndtr

        with np.errstate(divide="ignore"):
            return float(2 * ndtr(-abs(np.arctanh(self.r)) * math.sqrt(self.n - 3))) if self.n > 3 else math.nan


def estimate(values: Values) -> Estimate:
    """Mean and Student's 95 % interval of independent values; estimand: this test set.

    Args:
        values: N numbers, one per seed.
    """
    sample = np.asarray(values, float)
    mean, n = float(sample.mean()), len(sample)
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n)
    return Estimate(mean, *around(mean, standard_error(sample), n - 1), n)


def difference(
    values: Values, baseline: Values, pairing: Pairing = "independent", unit: float = 0.0, level: float = ALPHA
) -> Difference:
    """How far `values` lie above `baseline`, with interval and p; estimand: this test set.

    Independent: Welch's interval (1947), with Satterthwaite's degrees of freedom at equal numbers and the smaller arm's
    at unequal ones; p is the larger one of its t test, which knows nothing of tails, and of the studentised
    permutation test, which knows nothing of unequal spreads. Paired: Student's interval of the pairs' differences, and
    the sign-flip test.

    Args:
        values, baseline: N and M numbers, one per seed; paired ones have equal seeds at equal places.
        unit: the smallest step that a value can make, such as one test image.
        level: 1 - the level of the interval.
    """
    one, two = np.asarray(values, float), np.asarray(baseline, float)
    found = gap(one, two, pairing, unit, level)
    p = sign_flip_p(one - two) if pairing == "paired" else max(permutation_p(one, two), t_p(one, two, unit=unit))
    return Difference(found.mean, found.low, found.high, p, len(one), len(two))


def gap(
    values: Values, baseline: Values, pairing: Pairing = "independent", unit: float = 0.0, level: float = ALPHA
) -> Estimate:
    """The difference of two means with the interval of `difference`, and no test; `n` is the smaller arm's."""
    one, two = np.asarray(values, float), np.asarray(baseline, float)
    mean, error, freedom = contrast(one, two, pairing, unit)
    return Estimate(mean, *around(mean, error, freedom, level), min(len(one), len(two)))


def t_p(values: Values, baseline: Values, pairing: Pairing = "independent", unit: float = 0.0) -> float:
    """Two-sided p of the t test that goes with the interval of `difference`; nan below two values an arm."""
    return two_sided_p(*contrast(np.asarray(values, float), np.asarray(baseline, float), pairing, unit))


def around(mean: float, error: float, freedom: float, level: float = ALPHA) -> tuple[float, float]:
    """Student's interval around a mean of that standard error; nan where the error is not known."""
    half = t_quantile(1 - level / 2, freedom) * error
    return mean - half, mean + half


def two_sided_p(mean: float, error: float, freedom: float) -> float:
    """Student's p of a mean of 0; nan where the error is not known."""
    from scipy.special import stdtr

    return float(mean == 0) if error == 0 else float(2 * stdtr(freedom, -abs(mean) / error))


def prediction_half_width(values: Values) -> float:
    """Half the width of Student's 95 % interval for one more value like these; nan below two."""
    n = len(values)
    return t_quantile(1 - ALPHA / 2, n - 1) * standard_error(values) * math.sqrt(n + 1) if n > 1 else math.nan


def standard_error(values: Values) -> float:
    """Standard error of a mean of independent values; nan below two."""
    sample = np.asarray(values, float)
    return float(sample.std(ddof=1)) / math.sqrt(len(sample)) if len(sample) > 1 else math.nan


def contrast(
    one: np.ndarray, two: np.ndarray, pairing: Pairing = "independent", unit: float = 0.0
) -> tuple[float, float, float]:
    """Difference of means, its standard error, and degrees of freedom; the last two nan below two values an arm.

    No spread counts for less than that of rounding to the unit: values that tie do not make it zero. Satterthwaite's
    degrees of freedom hold for equally many values; where the smaller arm may have the larger spread they promise too
    much, so that arms of unequal size have those of the smaller one.
    """
    if not min(len(one), len(two)):
        return math.nan, math.nan, math.nan
    gap, floor = float(one.mean() - two.mean()), unit**2 / 12
    if min(len(one), len(two)) < 2:
        return gap, math.nan, math.nan
    if pairing == "paired":
        return gap, math.sqrt(max(float((one - two).var(ddof=1)), 2 * floor) / len(one)), len(one) - 1
    shares = [max(float(sample.var(ddof=1)), floor) / len(sample) for sample in (one, two)]
    error = math.sqrt(sum(shares))
    if len(one) != len(two):
        return gap, error, min(len(one), len(two)) - 1
    if error == 0:
        return gap, 0.0, 2 * len(one) - 2
    return gap, error, (len(one) - 1) * sum(shares) ** 2 / sum(share**2 for share in shares)


def equivalence_p(
    values: Values, baseline: Values, margin: float, pairing: Pairing = "independent", unit: float = 0.0
) -> float:
    """p of two one-sided t tests (Schuirmann 1987) that the means differ by less than `margin`; nan below three seeds.

    Two values tie too easily: on a small test set they would often show a spread of nothing.

    Args:
        values, baseline: as for `difference`.
        margin: positive, in the unit of the values.
    """
    from scipy.special import stdtr

    gap, error, freedom = contrast(np.asarray(values, float), np.asarray(baseline, float), pairing, unit)
    if math.isnan(error) or min(len(values), len(baseline)) < FEWEST:
        return math.nan
    if error == 0:
        return float(abs(gap) >= margin)
    return float(stdtr(freedom, (abs(gap) - margin) / error))


def holm(p_values: Values) -> list[float]:
    """Holm's adjusted p values (1979), in the order given; a nan stays and still counts in the family."""
    given = np.asarray(p_values, float)
    order = np.argsort(np.nan_to_num(given, nan=np.inf))
    steps = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty(len(given))
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def correlation(values: Values, baseline: Values) -> Correlation:
    """Pearson's r of values with equal seeds, with Fisher's 95 % interval (nan below four pairs), and what pairs save.

    Args:
        values, baseline: N numbers each, equal seeds at equal places.
    """
    from scipy.special import ndtri

    one, two = np.asarray(values, float), np.asarray(baseline, float)
    if len(one) < 3 or not np.ptp(one) or not np.ptp(two):
        return Correlation(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, len(one))
    r, n = float(np.corrcoef(one, two)[0, 1]), len(one)
    half = float(ndtri(1 - ALPHA / 2)) / math.sqrt(n - 3) if n > 3 else math.nan
    with np.errstate(divide="ignore"):
        low, high = (float(np.tanh(np.arctanh(r) + side * half)) for side in (-1, 1))
    apart, shared = one.var(ddof=1) + two.var(ddof=1), 2 * one.std(ddof=1) * two.std(ddof=1)
    saved = [float(apart / max(apart - shared * each, TIE * apart)) for each in (r, low, high)]
    return Correlation(r, low, high, saved[0], saved[1], saved[2], n)


def churn(predicted: np.ndarray, other: np.ndarray) -> Estimate:
    """Share of images, in percent, on which two arms disagree; Student's interval over the seeds they share.

    Args:
        predicted, other: S x N predicted classes, equal seeds in equal rows.
    """
    return estimate(100 * (predicted != other).mean(1))


def superiority(strata: Sequence[tuple[Values, Values]]) -> Estimate:
    """P(A > B) for a run of each arm, ties counting half: the mean over strata, with a 95 % score interval.

    Newcombe 2006 (method 5, Statistics in Medicine 25:559), whose interval has a width even where all of A lie above
    all of B; variances of strata add. `n` is the number of strata.

    Args:
        strata: (values of A, values of B) for each data set.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    shares, weights, sizes = [], [], []
    if not all(len(values) and len(baseline) for values, baseline in strata):
        return Estimate(math.nan, math.nan, math.nan, len(strata))
    for values, baseline in strata:
        one, two = np.asarray(values, float), np.sort(np.asarray(baseline, float))
        below, reached = (np.searchsorted(two, one, side).sum() for side in ("left", "right"))
        shares.append(float((below + 0.5 * (reached - below)) / (one.size * two.size)))
        weights.append(one.size * two.size)
        sizes.append((one.size + two.size) / 2 - 1)
    found, z = float(np.mean(shares)), float(ndtri(1 - ALPHA / 2))

    def excess(theta: float) -> float:
        spread = sum(
            theta * (1 - theta) * (1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / weight
            for size, weight in zip(sizes, weights, strict=True)
        )
        return (theta - found) ** 2 - z**2 * spread / len(shares) ** 2

    low = brentq(excess, 0.0, found - TIE) if found > 0 else 0.0  # at 0 and 1 the excess is 0 too
    high = brentq(excess, found + TIE, 1.0) if found < 1 else 1.0
    return Estimate(found, low, high, len(shares))


def crossed(variance: float, mean: float, error: float, freedom: float, n: int) -> Estimate:
    """A mean (or a difference) with its 95 % interval for new images, seeds and images crossed.

    Args:
        variance: of the mean, by the crossed bootstrap.
        mean: the mean of the data themselves.
        error, freedom: standard error over seeds alone, and its degrees of freedom.
        n: seeds of the smaller arm.
    """
    if math.isnan(error):
        return Estimate(mean, math.nan, math.nan, n)
    return Estimate(mean, *around(mean, *crossed_error(variance, error, freedom, n)), n)


def crossed_error(variance: float, error: float, freedom: float, n: int) -> tuple[float, float]:
    """Standard error and degrees of freedom for new images.

    The variance is the crossed bootstrap's, with the share by which drawing few seeds makes it too small put back; the
    degrees of freedom are Satterthwaite's, of which the images have many and the seeds few. Percentiles of the
    bootstrap alone miss where the seeds' part is the larger one (docs/statistics.md).
    """
    whole = variance + error**2 / n
    return math.sqrt(whole), whole**2 * freedom / error**4 if error > 0 else math.inf
