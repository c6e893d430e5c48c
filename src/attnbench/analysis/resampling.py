"""Resampling: exact tests by regrouping and by sign flips, and the crossed bootstrap. Arrays in, numbers out."""

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
BOOTSTRAPS = 2_000
TIE = 1e-9
"""Sizes nearer than this, relatively, are equal but for rounding."""

Pairing = Literal["independent", "paired"]
Values = Sequence[float] | np.ndarray
Stratum = tuple[Values, Values, float]
"""Values of an arm and of the baseline in one cell of several, and the weight of their difference in the sum."""


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


def stratified_p(strata: Sequence[Stratum], pairing: Pairing = "independent") -> float:
    """Two-sided p of the weighted sum of differences of means, regrouped within each stratum; nan for an empty one.

    All combinations of regroupings are counted where they are no more than those of 10 + 10 values; else 99,999 are
    drawn with a fixed seed. Paired values change signs instead of groups.
    """
    sides = [(np.asarray(one, float), np.asarray(two, float), weight) for one, two, weight in strata]
    if not all(len(one) and len(two) for one, two, _ in sides):
        return math.nan
    if pairing == "paired":
        return sign_flip_p(np.concatenate([weight * (one - two) / len(one) for one, two, weight in sides]))
    sizes = [(len(one), len(two)) for one, two, _ in sides]
    counted = math.prod(math.comb(n + m, n) for n, m in sizes) <= math.comb(2 * EXACT_UP_TO, EXACT_UP_TO)
    rng, sums = np.random.default_rng(0), np.zeros(1 if counted else RESAMPLES)
    for one, two, weight in sides:
        own = weight * _regrouped_gaps(one, two)
        sums = np.add.outer(sums, own).ravel() if counted else sums + rng.choice(own, RESAMPLES)
    observed = abs(sum(weight * float(one.mean() - two.mean()) for one, two, weight in sides))
    spans = sum(abs(weight) * float(np.ptp(np.concatenate([one, two]))) for one, two, weight in sides)
    far = int((np.abs(sums) >= observed - TIE * spans).sum())
    return far / len(sums) if counted else (far + 1) / (len(sums) + 1)


def _regrouped_gaps(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Differences of means of two groups regrouped: of all regroupings, or of as many as are drawn."""
    n, m, pooled = len(one), len(two), np.concatenate([one, two])
    pooled = (1 / n + 1 / m) * (pooled - pooled.mean())  # sums up to 0: the first group says it all
    gaps = np.concatenate([pooled[places[:n]].sum(0) for places in _regroupings(n, m)])
    return np.concatenate([gaps, -gaps]) if n == m else gaps


def crossed_draws(right: np.ndarray, stream: int) -> np.ndarray:
    """Bootstrap means of an arm for the estimand *new images*: seeds and images are drawn, crossed.

    The pigeonhole bootstrap (Owen 2007). The images drawn are the same for every arm that is given as many, since all
    arms see the same; the seeds are drawn by the stream's number: another for another arm, the same for pairs.

    Args:
        right: S x N, what the run of a seed scored on an image (0 or 100 for accuracy in percent).
        stream: number of the stream of seeds.

    Returns:
        2,000 means.
    """
    seeds, images = right.shape
    accuracies = _image_counts(images) @ right.T.astype(np.float32) / images  # draws x S
    weights = np.random.default_rng((1, stream)).multinomial(seeds, np.full(seeds, 1 / seeds), BOOTSTRAPS) / seeds
    drawn: np.ndarray = (weights * accuracies).sum(1)
    return drawn


@functools.lru_cache(maxsize=1)
def _image_counts(images: int) -> np.ndarray:
    """How often each image is drawn when as many are drawn as there are: float32 2,000 x N."""
    rng, counts = np.random.default_rng(0), np.empty((BOOTSTRAPS, images), np.float32)
    for row in counts:
        row[:] = np.bincount(rng.integers(0, images, images), minlength=images)
    return counts


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
