"""Exact tests by regrouping and by sign flips, and the variance of a crossed bootstrap: arrays in, numbers out."""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

EXACT_UP_TO = 10
"""As many regroupings as two arms of this size have are all counted."""
FLIPS_UP_TO = 16
"""Most pairs whose sign flips are all counted."""
RESAMPLES = 99_999
TIE = 1e-9
"""Sizes nearer than this, relatively, are equal but for rounding."""

Pairing = Literal["independent", "paired"]
Values = Sequence[float] | np.ndarray


def permutation_p(values: Values, baseline: Values) -> float:
    """Two-sided p of the studentised two-sample permutation test (Janssen 1997); nan below two values an arm.

    All regroupings are counted where they are no more than those of 10 + 10 values; else 99,999 are drawn with a
    fixed seed. Regroupings that tie with the observed one count, whatever rounding makes of them.
    """
    one, two = np.asarray(values, float), np.asarray(baseline, float)
    if min(len(one), len(two)) < 2:
        return math.nan
    pooled = np.concatenate([one, two])
    pooled = (pooled - pooled.mean()) / (float(np.ptp(pooled)) or 1.0)
    observed = _welch_size(pooled[: len(one)], pooled[len(one) :]) * (1 - TIE) - TIE
    far, total = 0, 0
    for places in _regroupings(len(one), len(two)):
        regrouped = pooled[places]
        far += int((_welch_size(regrouped[: len(one)], regrouped[len(one) :]) >= observed).sum())
        total += places.shape[1]
    return far / total if exact(len(one), len(two)) else (far + 1) / (total + 1)


def sign_flip_p(differences: Values) -> float:
    """Two-sided p of the sign-flip test of pairs (Fisher 1935), exact up to 16 pairs; nan below two.

    Studentising changes nothing: the sum of squares is the same whatever the signs.
    """
    gaps = np.asarray(differences, float)
    if len(gaps) < 2:
        return math.nan
    counted = len(gaps) <= FLIPS_UP_TO
    if counted:
        signs = 1 - 2 * ((np.arange(2 ** len(gaps))[:, None] >> np.arange(len(gaps))) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (RESAMPLES, len(gaps)))
    observed = abs(gaps.sum()) - TIE * np.abs(gaps).sum()
    far = int((np.abs(signs @ gaps) >= observed).sum())
    return far / len(signs) if counted else (far + 1) / (len(signs) + 1)


def bootstrap_variance(right: np.ndarray, other: np.ndarray | None = None) -> float:
    """Variance of a mean where seeds and images are both drawn again, crossed: the estimand *new images*.

    The pigeonhole bootstrap (Owen 2007), whose variance needs no draws: that of the seeds' means by S, that of the
    images' means by N, and what is left of the single values by S N, all with the divisors S and N.

    Args:
        right: S x N, what the run of a seed scored on an image (0 or 100 for accuracy in percent). Of pairs, the
            differences at equal seeds.
        other: M x N of another arm on the same images, whose seeds are drawn by themselves: the variance is then of
            the difference of the two means.
    """
    seeds, images = right.mean(1), right.mean(0)
    parts = float(seeds.var()), float(images.var())
    left = max(float(right.var()) - sum(parts), 0.0)
    own = parts[0] / len(seeds) + parts[1] / len(images) + left / right.size
    if other is None:
        return own
    together = float((images - images.mean()) @ (other.mean(0) - other.mean())) / len(images)
    return own + bootstrap_variance(other) - 2 * together / len(images)


def exact(n: int, m: int) -> bool:
    """Whether all regroupings of N and M values are counted."""
    return math.comb(n + m, n) <= math.comb(2 * EXACT_UP_TO, EXACT_UP_TO)


def _regroupings(n: int, m: int) -> Iterator[np.ndarray]:
    """Blocks of places: in each column first those of the one group, then those of the other."""
    if exact(n, m):
        yield _all_regroupings(n, m)
        return
    rng = np.random.default_rng(0)
    for start in range(0, RESAMPLES, 10_000):
        yield rng.random((min(10_000, RESAMPLES - start), n + m)).argsort(1).T


@functools.lru_cache(maxsize=8)
def _all_regroupings(n: int, m: int) -> np.ndarray:
    """Every choice of the first group; of equal groups only one of two mirror images, which lie equally far apart."""
    kept = range(1, n + m) if n == m else range(n + m)
    first = np.array([(0, *rest) if n == m else rest for rest in itertools.combinations(kept, n - (n == m))], np.int8)
    chosen = np.zeros((len(first), n + m), bool)
    np.put_along_axis(chosen, first.astype(np.intp), True, 1)
    return np.ascontiguousarray(np.argsort(~chosen, axis=1, kind="stable").astype(np.int8).T)


def _welch_size(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """|Welch's t| of samples of unit range, a column each; very large where there is no spread, 0 where also no gap."""
    gap = np.abs(one.mean(0) - two.mean(0))
    error = np.sqrt(one.var(0, ddof=1) / len(one) + two.var(0, ddof=1) / len(two))
    flat = np.where(gap < TIE, 0.0, 1 / TIE)
    return np.where(error < TIE, flat, gap / np.maximum(error, TIE))
