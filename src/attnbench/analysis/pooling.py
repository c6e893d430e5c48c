"""Several data sets to one statement: the mean over these data sets, and the mean over data sets like these.

Two estimands again. *These data sets*: the mean difference on just these; only seeds vary. *Data sets like these*: the
mean over the data sets of which these are a sample; the data sets vary too, and they are what is counted.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnbench.analysis.laws import chi2_quantile
from attnbench.analysis.resampling import TIE, Pairing, Stratum, Values, stratified_p
from attnbench.analysis.stats import ALPHA, Difference, Estimate, around, contrast, two_sided_p

BORROWED = 4
"""Degrees of freedom with which the mean of all data sets' variances counts in each: a weight that comes from a few
seeds alone is large by luck as often as by merit, and intervals were too narrow (docs/statistics.md)."""
FROM_PREDICTION, FROM_RANKS = 3, 6
"""Fewer data sets than these cannot say what a new one would show, and are too few for ranks."""


NONE = (math.nan, math.nan)
DRAWS = 20_000
"""Of the difference on a new data set."""


@dataclass(frozen=True)
class RandomEffects:
    """The mean of true differences over data sets like these, and how far they lie apart, in the unit of the values."""

    mean: float
    low: float
    high: float
    p_value: float
    tau: Estimate
    """Standard deviation of the true differences between data sets, with its 95 % interval."""
    new: Estimate
    """The true difference on a new data set, with its 95 % prediction interval; nan below three data sets."""
    n: int
    """Data sets."""


@dataclass(frozen=True)
class Ranks:
    """Arms by the mean rank of their mean over data sets; 1 is the best."""

    arms: tuple[str, ...]
    """The best first."""
    means: tuple[float, ...]
    critical: float
    """Nemenyi's critical difference: mean ranks nearer than this are not told apart, at 5 % over all pairs."""
    p_value: float
    """Of Friedman's test that none differs, in the form of Iman and Davenport; of two arms, the sign test's."""
    n: int
    """Data sets."""

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The longest rows of neighbours that are not told apart; none where a single arm is all that there is."""
        ends = [sum(mean <= first + self.critical for mean in self.means) for first in self.means]
        kept = [
            (start, end) for start, end in enumerate(ends) if end - start > 1 and (not start or end > ends[start - 1])
        ]
        return [self.arms[start:end] for start, end in kept]


def on_these(strata: Sequence[Stratum], pairing: Pairing = "independent", level: float = ALPHA) -> Difference:
    """The weighted sum of differences in these strata, with Welch's interval; p is the larger of two.

    The one p is that of the stratified permutation test, the other that of the interval, which holds where an arm has
    more seeds and less spread than the other. Variances of strata add; degrees of freedom are Satterthwaite's.
    With one value an arm everywhere, and of pairs, the permutation test may stand alone; else there is no p where the
    other has none: a single value beside several is regrouped wrongly where spreads differ.
    """
    mean, error, freedom = added(strata, pairing)
    (low, high), p = around(mean, error, freedom, level), two_sided_p(mean, error, freedom)
    n, n_baseline = sum(len(each.values) for each in strata), sum(len(each.baseline) for each in strata)
    regrouped = stratified_p(strata, pairing)
    if math.isnan(p) and (pairing == "paired" or all(len(each.values) == len(each.baseline) == 1 for each in strata)):
        p = regrouped
    return Difference(mean, low, high, float(np.maximum(p, regrouped)), n, n_baseline)


def random_effects(gaps: Values, errors: Values, freedoms: Values, level: float = ALPHA) -> RandomEffects:
    """The random-effects mean of differences, each on a data set of its own, with Hartung and Knapp's interval.

    The variance between data sets is Paule and Mandel's (1982), at which the factor by which Hartung and Knapp (2001)
    widen the standard error is 1; where that variance is 0, the factor is kept from falling below 1 (Röver et al.
    2015). Student's t with k - 1 degrees of freedom. tau's own interval is the Q profile's (Viechtbauer 2007). Where an
    error is unknown, all are taken as part of what varies between data sets, which makes the interval Student's over
    the differences.

    Args:
        gaps, errors, freedoms: K differences, their standard errors and the degrees of freedom of these; nan where one
            seed cannot tell.
        level: 1 - 0.95 of the interval of the mean, or less where looks share the error.
    """
    effects, k = np.asarray(gaps, float), len(gaps)
    variances = _moderated(np.square(np.asarray(errors, float)), np.asarray(freedoms, float))
    if k < 2 or (np.ptp(effects) == 0 and not variances.all()):
        mean = Estimate(float(effects.mean()) if k else math.nan, math.nan, math.nan, k)
        return RandomEffects(mean.mean, math.nan, math.nan, math.nan, replace(mean, mean=math.nan), mean, k)
    between = _between(effects, variances)
    weights = 1 / (variances + between[0])
    middle, error = float(weights @ effects / weights.sum()), 1 / math.sqrt(weights.sum())
    (low, high), p = around(middle, error, k - 1, level), two_sided_p(middle, error, k - 1)
    ends = _new(effects, variances) if k >= FROM_PREDICTION else NONE
    tau, least, most = map(math.sqrt, between)
    return RandomEffects(middle, low, high, p, Estimate(tau, least, most, k), Estimate(middle, *ends, k), k)


def ranks(arms: Sequence[str], table: np.ndarray) -> Ranks | None:
    """Mean ranks and what tells them apart (Demšar 2006); None for a single arm or below six data sets.

    Args:
        table: K data sets x arms, higher is better.
    """
    sets, count = table.shape
    if sets < FROM_RANKS or count < 2:
        return None
    from scipy.stats import binomtest, f, rankdata, studentized_range

    placed = rankdata(-table, axis=1)
    means = placed.mean(0)
    within = ((placed - (count + 1) / 2) ** 2).sum()  # ties make it smaller
    chi2 = (count - 1) * sets**2 * ((means - (count + 1) / 2) ** 2).sum() / within if within else 0.0
    left = sets * (count - 1) - chi2
    if count == 2:  # the sign test, exactly
        first, second = ((placed[:, 0] < placed[:, 1]).sum(), (placed[:, 0] > placed[:, 1]).sum())
        p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    elif left > TIE:
        p = float(f.sf((sets - 1) * chi2 / left, count - 1, (count - 1) * (sets - 1)))
    else:  # all data sets agree, as they do by chance in one of so many cases
        p = math.factorial(count) ** (1.0 - sets)
    critical = float(studentized_range.ppf(1 - ALPHA, count, np.inf)) * math.sqrt(count * (count + 1) / (12 * sets))
    order = np.argsort(means, kind="stable")
    return Ranks(tuple(arms[at] for at in order), tuple(float(means[at]) for at in order), critical, p, sets)


def added(strata: Sequence[Stratum], pairing: Pairing = "independent") -> tuple[float, float, float]:
    """The weighted sum of differences, its standard error, and Satterthwaite's degrees of freedom."""
    parts = [contrast(each.values, each.baseline, pairing, each.unit) for each in strata]
    gaps, errors, freedoms = np.array(parts).T
    weights = np.array([each.weight for each in strata])
    shares = np.square(weights * errors)
    total = float(shares.sum())
    freedom = total**2 / float((shares**2 / freedoms).sum()) if total else float(freedoms.sum())
    return float(weights @ gaps), math.sqrt(total), freedom


def _moderated(variances: np.ndarray, freedoms: np.ndarray) -> np.ndarray:
    """Each variance with a part of the mean of all; all 0 where one is unknown."""
    if not np.isfinite(variances).all():
        return np.zeros(len(variances))
    borrowed = BORROWED / (BORROWED + freedoms)
    moderated: np.ndarray = borrowed * variances.mean() + (1 - borrowed) * variances
    return moderated


def _between(effects: np.ndarray, variances: np.ndarray) -> tuple[float, float, float]:
    """The variance between data sets at which the weighted sum of squares is what it should be, and its interval."""
    from scipy.optimize import brentq

    freedom, scale = len(effects) - 1, float(np.ptp(effects) ** 2 + variances.max())
    least = 0.0 if variances.all() else 1e-12 * scale

    def squares(between: float) -> float:
        weights = 1 / (variances + between)
        return float(weights @ (effects - weights @ effects / weights.sum()) ** 2)

    def at(wanted: float) -> float:
        if squares(least) <= wanted:
            return 0.0
        most = scale
        while squares(most) > wanted:
            most *= 4
        return float(brentq(lambda between: squares(between) - wanted, least, most, xtol=1e-14 * scale))

    low, high = (float(chi2_quantile(share, freedom)) for share in (1 - ALPHA / 2, ALPHA / 2))
    return at(freedom), at(low), at(high)


def _new(effects: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """The ends of what 95 % of new data sets show, with all that few data sets leave open (Nagashima et al. 2019).

    tau is drawn from what the weighted sum of squares leaves possible, then the mean as Hartung and Knapp have it,
    then the data set. A t interval around the estimated tau holds 84 to 90 % where tau is small (docs/statistics.md).
    """
    grid = np.geomspace(1e-9, 1e6, 600)[:, None] * (np.ptp(effects) ** 2 + variances.max())
    weights = 1 / (variances + grid)
    total = weights.sum(1)
    means = weights @ effects / total
    squares = (weights * (effects - means[:, None]) ** 2).sum(1)
    errors = np.sqrt(squares / (len(effects) - 1) / total)
    wanted, normal, student = _drawn(len(effects))
    at = np.interp(wanted, squares[::-1], np.arange(len(grid))[::-1])  # where on the grid, on which squares fall
    between, middle, error = (np.interp(at, np.arange(len(grid)), of) for of in (grid[:, 0], means, errors))
    apart = np.sqrt(between) * normal + error * student
    low, high = np.percentile(
        np.concatenate([middle + apart, middle - apart]), [100 * ALPHA / 2, 100 - 100 * ALPHA / 2]
    )
    return float(low), float(high)


@functools.lru_cache(maxsize=8)
def _drawn(sets: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fixed draws of a sum of squares, of a data set and of the mean; each is used with either sign."""
    rng, half = np.random.default_rng(0), DRAWS // 2
    return rng.chisquare(sets - 1, half), rng.standard_normal(half), rng.standard_t(sets - 1, half)
