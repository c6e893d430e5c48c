"""Exact tests by regrouping and by sign flips, and the crossed bootstrap's variance; arrays in, numbers out."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

EXACT_UP_TO = 10
"""As many regroupings as two arms of this size have are all counted."""
FLIPS_UP_TO = 16
"""Most pairs whose sign flips are all counted."""
RESAMPLES = 99_999
LARGE = 100
"""From so many values an arm the law over regroupings is its limit, the normal law, as far as drawing could tell."""
MOST_DRAWN = 40_000_000
"""Regroupings times values that are drawn at most; where the arms have more values, fewer regroupings."""
TIE = 1e-9
"""Sizes nearer than this, relatively, are equal but for rounding."""
FLAT = 1e-7
"""A spread below this part of the range of all values is none but for rounding."""

Pairing = Literal["independent", "paired"]
Values = Sequence[float] | np.ndarray


class Stratum(NamedTuple):
    """One cell of several, whose differences are added up."""

    values: np.ndarray
    baseline: np.ndarray
    weight: float = 1.0
    """Of its difference in the sum."""
    unit: float = 0.0
    """The smallest step that a value can make."""


def permutation_p(values: Values, baseline: Values) -> float:
    """Two-sided p of the studentised two-sample permutation test (Janssen 1997); nan below two values an arm.

    All regroupings are counted where they are no more than those of 10 + 10 values; else 99,999 are drawn with a
    fixed seed. Regroupings that tie with the observed one count, whatever rounding makes of them. From 100 values an
    arm the statistic is held against the normal law, to which its law over regroupings has come near by then.
    """
    if min(len(values), len(baseline)) < 2:
        return math.nan
    if min(len(values), len(baseline)) >= LARGE:
        one, two = np.asarray(values, float), np.asarray(baseline, float)
        gap, error = abs(one.mean() - two.mean()), math.sqrt(one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two))
        return _limit_p(gap / error if error > FLAT * gap else gap and math.inf)
    return _regrouped_p(tuple(map(float, values)), tuple(map(float, baseline)))


@functools.lru_cache(maxsize=1024)
def _regrouped_p(values: tuple[float, ...], baseline: tuple[float, ...]) -> float:
    """p at a single look; kept, because a difference and the verdict on it both ask for it."""
    return share_as_far(regrouped_t(values, baseline, [(len(values), len(baseline))])[:, 0])


def sign_flip_p(differences: Values) -> float:
    """Two-sided p of the sign-flip test of pairs (Fisher 1935), exact up to 16 pairs; nan below two.

    Studentising changes nothing: the sum of squares is the same whatever the signs.
    """
    if len(differences) < 2:
        return math.nan
    if len(differences) >= LARGE:
        gaps = np.asarray(differences, float)
        return _limit_p(abs(gaps.sum()) / math.sqrt(float((gaps**2).sum()) or 1.0))
    return share_as_far(flipped_t(differences, [len(differences)])[:, 0])


def _limit_p(size: float) -> float:
    """Two-sided p of the normal law."""
    from scipy.special import ndtr

    return float(2 * ndtr(-size))


def share_as_far(sizes: np.ndarray) -> float:
    """The share of regroupings that lie as far out as the first of them, which is what was observed."""
    return float((sizes >= sizes[0] * (1 - TIE) - TIE).mean())


def regrouped_t(values: Values, baseline: Values, looks: Sequence[tuple[int, int]]) -> np.ndarray:
    """|Welch's t| at each look, of the arms as observed and of their regroupings within what each look added.

    Args:
        values, baseline: N and M numbers in the order in which they came.
        looks: how many of each every look has seen, growing.

    Returns:
        R x looks; the first row is what was observed, very large where there is no spread, 0 where also no gap.
    """
    one, two = np.asarray(values, float), np.asarray(baseline, float)
    pooled = np.concatenate([one, two])
    middle, unit = pooled.mean(), float(np.ptp(pooled)) or 1.0
    one, two = (one - middle) / unit, (two - middle) / unit
    added = tuple((n - a, m - b) for (a, b), (n, m) in itertools.pairwise([(0, 0), *looks]))
    first, second, sizes = np.zeros((2, 1)), np.zeros((2, 1)), []
    for (n, m), (more, others), masks in zip(looks, added, regroupings(added), strict=True):
        block = np.concatenate([one[n - more : n], two[m - others : m]])
        moments = np.stack([block, block**2])
        taken = _taken(moments, masks)
        first, second = first + taken, second + (moments.sum(1)[:, None] - taken)
        sizes.append(_welch_size(first, n, second, m))
    return np.stack(sizes, 1)


def _taken(moments: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Sums and sums of squares of the first group of each regrouping, 2 x R; some at a time, for the cache's sake."""
    some = max(1, 50_000 // masks.shape[1])
    parts = [moments @ masks[start : start + some].T.astype(float) for start in range(0, len(masks), some)]
    return np.concatenate(parts, 1)


def flipped_t(differences: Values, looks: Sequence[int]) -> np.ndarray:
    """|Sum| over root of the sum of squares at each look, of pairs' differences as observed and with flipped signs.

    Args:
        differences: N numbers in the order in which they came.
        looks: how many every look has seen, growing.

    Returns:
        R x looks; the first row is what was observed.
    """
    gaps = np.asarray(differences, float)
    ends = np.asarray(looks) - 1
    signs = 1.0 - 2.0 * _flips(len(gaps))
    sums, scale = np.cumsum(signs * gaps, 1)[:, ends], np.sqrt(np.cumsum(gaps**2))[ends]
    found: np.ndarray = np.abs(sums) / np.where(scale > 0, scale, 1.0)
    return found


def stratified_p(strata: Sequence[Stratum], pairing: Pairing = "independent") -> float:
    """Two-sided p of the weighted sum of differences of means, regrouped within each stratum; nan for an empty one.

    All combinations of regroupings are counted where they are no more than those of 10 + 10 values; else 99,999 are
    drawn with a fixed seed. Paired values change signs instead of groups. From 100 values an arm in each stratum the
    sum is held against the normal law with the variance that regrouping gives it.
    """
    if not all(len(each.values) and len(each.baseline) for each in strata):
        return math.nan
    pooled = [np.concatenate([each.values, each.baseline]) for each in strata]
    sizes = tuple((len(each.values), len(each.baseline)) for each in strata)
    if pairing == "paired":
        gaps = [
            each.weight / n * (both[:n] - both[n:]) for each, both, (n, _) in zip(strata, pooled, sizes, strict=True)
        ]
        return sign_flip_p(np.concatenate(gaps))
    if min(map(min, sizes)) >= LARGE:
        shares = [
            each.weight**2 * both.var(ddof=1) * (1 / n + 1 / m)
            for each, both, (n, m) in zip(strata, pooled, sizes, strict=True)
        ]
        gap = abs(sum(each.weight * (each.values.mean() - each.baseline.mean()) for each in strata))
        return _limit_p(gap / math.sqrt(sum(shares) or 1.0))
    scale = sum(abs(each.weight) * float(np.ptp(both)) for each, both in zip(strata, pooled, strict=True)) or 1.0
    sums = np.zeros(1)
    for each, both, (n, m), masks in zip(strata, pooled, sizes, regroupings(sizes), strict=True):
        # about their mean all values sum up to 0, so that the first group says it all
        apart = each.weight / scale * (1 / n + 1 / m) * (both - both.mean())
        sums = sums + np.einsum("rv,v", masks, apart)  # six times as fast as a product of mixed types
    return share_as_far(np.abs(sums))


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
    return counted([(n, m)])


def counted(blocks: Sequence[tuple[int, int]]) -> bool:
    """Whether all regroupings within blocks of so many values of either arm are counted."""
    return math.prod(math.comb(n + m, n) for n, m in blocks) <= math.comb(2 * EXACT_UP_TO, EXACT_UP_TO)


@functools.lru_cache(maxsize=8)
def regroupings(blocks: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, ...]:
    """For each block the regroupings as R x (n + m): 1 in the first group; the first row is as observed.

    Where the arms have equally many values in every block, only one of two mirror images is kept: they lie equally
    far apart.
    """
    if not counted(blocks):
        rng, found = np.random.default_rng(0), []
        for n, m in blocks:
            order = rng.random((_drawn(sum(map(sum, blocks))), n + m)).argsort(1)
            order[0] = np.arange(n + m)
            found.append((order < n).astype(np.int8))
        return tuple(found)
    mirrored = all(n == m for n, m in blocks)
    each = [_choices(n, m, mirrored and not place) for place, (n, m) in enumerate(blocks)]
    places = np.indices([len(masks) for masks in each]).reshape(len(each), -1)
    return tuple(masks[place] for masks, place in zip(each, places, strict=True))


def _drawn(values: int) -> int:
    """How many regroupings of so many values are drawn, with that which was observed."""
    return min(RESAMPLES, MOST_DRAWN // values) + 1


def _choices(n: int, m: int, mirrored: bool) -> np.ndarray:
    """Every choice of N out of N + M, the first N first; with the very first always chosen where mirrored."""
    kept = range(1, n + m) if mirrored else range(n + m)
    chosen = itertools.combinations(kept, n - mirrored)
    places = np.array([(0, *rest) if mirrored else rest for rest in chosen], np.intp).reshape(-1, n)
    masks = np.zeros((len(places), n + m), np.int8)
    np.put_along_axis(masks, places, 1, 1)
    return masks


@functools.lru_cache(maxsize=8)
def _flips(n: int) -> np.ndarray:
    """Which of N signs are flipped, R x N, none in the first row; of mirror images one where all are counted."""
    if n <= FLIPS_UP_TO:
        return np.asarray((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1, np.int8)
    flips = np.random.default_rng(0).integers(0, 2, (_drawn(n), n), np.int8)
    flips[0] = 0
    return flips


def _welch_size(first: np.ndarray, n: int, second: np.ndarray, m: int) -> np.ndarray:
    """|Welch's t| from sums and sums of squares (2 x R) of samples within a unit range."""
    gap = np.abs(first[0] / n - second[0] / m)
    error = sum(np.maximum(q - s**2 / k, 0.0) / (k * (k - 1)) for (s, q), k in ((first, n), (second, m)))
    flat = np.where(gap < FLAT, 0.0, 1 / FLAT)
    found: np.ndarray = np.where(error < FLAT**2, flat, gap / np.sqrt(np.maximum(error, FLAT**2)))
    return found
