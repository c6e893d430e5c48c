"""Numbers to statements: arrays in, a small frozen value out; no files, no torch, no printing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXACT_UP_TO = 10
RESAMPLES = 99_999
TIE = 1e-9
"""Sizes nearer than this, relatively, are equal but for rounding."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds on these very test images, with Student's 95 % interval; nan where one seed cannot tell."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """The difference of two means over seeds, with Welch's 95 % interval and an exact permutation p."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int
    n_baseline: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % t interval of independent values.

    Args:
        values: N numbers, one per seed.
    """
    from scipy.stats import t

    sample = np.asarray(values, float)
    mean, n = float(sample.mean()), len(sample)
    if n < 2:
        return Estimate(mean, float("nan"), float("nan"), n)
    half = float(t.ppf(0.975, n - 1)) * float(sample.std(ddof=1)) / n**0.5
    return Estimate(mean, mean - half, mean + half, n)


def difference(values: Sequence[float], baseline: Sequence[float]) -> Difference:
    """How far `values` lie above `baseline`: Welch's interval and the exact two-sample permutation test.

    Args:
        values: N numbers, one per seed.
        baseline: M numbers, one per seed; the seeds are not paired.
    """
    one, two = np.asarray(values, float), np.asarray(baseline, float)
    low, high = _welch_interval(one, two)
    return Difference(float(one.mean() - two.mean()), low, high, permutation_p(one, two), len(one), len(two))


def permutation_p(values: np.ndarray, baseline: np.ndarray) -> float:
    """Two-sided p of the studentised two-sample permutation test (Janssen 1997); nan below two values an arm.

    All regroupings are counted up to 10 + 10 values; above that 99,999 are drawn with a fixed seed. Regroupings
    that tie with the observed one count, whatever rounding makes of them.
    """
    from scipy.stats import permutation_test

    if min(len(values), len(baseline)) < 2:
        return float("nan")
    pooled = np.concatenate([values, baseline])
    centre, spread = pooled.mean(), float(np.ptp(pooled)) or 1.0
    one, two = (values - centre) / spread, (baseline - centre) / spread
    observed = _welch_size(one, two) * (1 - TIE) - TIE
    exact = max(len(values), len(baseline)) <= EXACT_UP_TO
    result = permutation_test(
        (one, two),
        lambda a, b, axis=-1: (_welch_size(a, b, axis) >= observed).astype(float),
        permutation_type="independent",
        vectorized=True,
        n_resamples=np.inf if exact else RESAMPLES,
        alternative="greater",
        batch=20_000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def _welch_interval(one: np.ndarray, two: np.ndarray) -> tuple[float, float]:
    """Welch 1947, with the degrees of freedom of Satterthwaite; the point itself where nothing varies."""
    from scipy.stats import t

    if min(len(one), len(two)) < 2:
        return float("nan"), float("nan")
    gap = float(one.mean() - two.mean())
    shares = [float(sample.var(ddof=1)) / len(sample) for sample in (one, two)]
    error = sum(shares)
    if error == 0:
        return gap, gap
    freedom = error**2 / sum(s**2 / (len(sample) - 1) for s, sample in zip(shares, (one, two), strict=True))
    half = float(t.ppf(0.975, freedom)) * error**0.5
    return gap - half, gap + half


def _welch_size(one: np.ndarray, two: np.ndarray, axis: int = -1) -> np.ndarray:
    """|Welch's t| of samples of unit range; very large where a regrouping has no spread, 0 where also no gap."""
    gap = np.abs(one.mean(axis) - two.mean(axis))
    error = np.sqrt(one.var(axis, ddof=1) / one.shape[axis] + two.var(axis, ddof=1) / two.shape[axis])
    flat = np.where(gap < TIE, 0.0, 1 / TIE)
    return np.where(error < TIE, flat, gap / np.maximum(error, TIE))
