"""Regroupings and sign flips counted in exact fractions; the crossed bootstrap against every draw there is."""

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from attnbench.analysis import resampling
from attnbench.analysis.resampling import BOOTSTRAPS, EXACT_UP_TO, RESAMPLES, crossed_draws, permutation_p, sign_flip_p

sizes = st.sampled_from([50, 360, 5400])
"""Images of a test set: an accuracy is a share of it, so that equal accuracies are common."""


@st.composite
def two_arms(draw, most: int = 4):
    """Right answers of two arms on one test set, and its size."""
    size = draw(sizes)
    arm = st.lists(st.integers(size * 9 // 10, size), min_size=2, max_size=most)
    return draw(arm), draw(arm), size


def percent(arm: list[int], size: int) -> np.ndarray:
    return np.array([100 * right / size for right in arm])


def squared_t(one: tuple[int, ...], two: tuple[int, ...]) -> Fraction | float:
    """Welch's t squared, without rounding; infinite where means differ and nothing is spread."""
    means = [Fraction(sum(arm), len(arm)) for arm in (one, two)]
    spreads = [
        sum((value - mean) ** 2 for value in arm) / (len(arm) - 1) / len(arm)
        for arm, mean in zip((one, two), means, strict=True)
    ]
    gap = (means[0] - means[1]) ** 2
    return gap / sum(spreads) if sum(spreads) else math.inf if gap else Fraction(0)


def regrouped(one: list, two: list) -> Iterator[tuple[tuple, tuple]]:
    pool = [*one, *two]
    for group in itertools.combinations(range(len(pool)), len(one)):
        yield (
            tuple(pool[place] for place in group),
            tuple(value for place, value in enumerate(pool) if place not in group),
        )


def counted_p(one: list[int], two: list[int]) -> Fraction:
    """The share of all regroupings that lie at least as far apart as the arms do."""
    observed = squared_t(tuple(one), tuple(two))
    far = [squared_t(*groups) >= observed for groups in regrouped(one, two)]
    return Fraction(sum(far), len(far))


def flipped_p(gaps: list[int]) -> Fraction:
    """The share of all signs with which the differences add up to at least as much."""
    sums = [abs(sum(map(int.__mul__, signs, gaps))) for signs in itertools.product((1, -1), repeat=len(gaps))]
    return Fraction(sum(found >= abs(sum(gaps)) for found in sums), len(sums))


# The permutation test


@pytest.mark.parametrize(
    ("n", "m", "p"), [(2, 2, 2 / 6), (3, 3, 2 / 20), (2, 5, 1 / 21), (5, 5, 2 / 252), (10, 10, 2 / 184_756)]
)
def test_arms_apart_have_the_smallest_p_of_their_design(n, m, p):
    """Only the observed grouping lies as far apart, and its mirror image where arms have equally many."""
    high, low = 95 + 0.13 * np.arange(n), 90 + 0.13 * np.arange(m)
    assert permutation_p(high, low) == permutation_p(low, high) == pytest.approx(p)


@given(two_arms())
@settings(deadline=None, max_examples=30)
def test_p_is_the_count_of_regroupings_at_least_as_far_apart(arms):
    """Equal accuracies make many regroupings equally far apart: rounding must not lose one of them."""
    one, two, size = arms
    assert permutation_p(percent(one, size), percent(two, size)) == pytest.approx(float(counted_p(one, two)))


@pytest.mark.parametrize(
    ("one", "two", "size"),
    [
        ([4889, 4925, 4894], [4993, 4948, 4889, 4899], 5400),
        ([331, 330, 324, 328, 329], [334, 326, 326, 334, 333], 360),
        ([325, 334, 332, 332], [330, 332, 328, 325], 360),
        ([330, 330, 330], [330, 331], 360),
        ([330, 330], [330, 330], 360),
    ],
)
def test_ties_between_regroupings_survive_rounding(one, two, size):
    assert permutation_p(percent(one, size), percent(two, size)) == pytest.approx(float(counted_p(one, two)))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 4), (3, 6), (7, 4), (5, 5)])
def test_p_is_scipys_with_welchs_t(n, m):
    """Unequal arms tell it from the pooled t and from the bare difference, which equal arms do not."""
    rng = np.random.default_rng(n * m)
    one, two = rng.normal(91, 2, n), rng.normal(90, 0.5, m)

    def size(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(oracle.ttest_ind(first, second, equal_var=False, axis=axis).statistic)

    found = oracle.permutation_test((one, two), size, vectorized=True, n_resamples=np.inf, alternative="greater")
    assert permutation_p(one, two) == pytest.approx(found.pvalue)


def test_many_runs_are_drawn_near_the_exact_p_and_always_alike():
    """Of the 705,432 regroupings of these values 20,390 lie as far apart: counted once, in whole numbers."""
    draws = np.random.default_rng(1)
    one, two = draws.normal(90, 1, EXACT_UP_TO + 1).round(2), draws.normal(90.9, 1, EXACT_UP_TO + 1).round(2)
    exact, found = 20_390 / 705_432, permutation_p(one, two)
    assert abs(found - exact) < 4 * math.sqrt(exact * (1 - exact) / RESAMPLES)
    assert found == permutation_p(one, two)


def test_many_runs_apart_have_the_smallest_p_that_can_be_drawn():
    """Twice that, should the draws meet the mirror image."""
    found = permutation_p(np.linspace(94, 95, 12), np.linspace(90, 91, 12))
    assert 1 <= found * (RESAMPLES + 1) <= 2.001


def test_as_many_equal_arms_are_told_apart_as_the_exact_test_allows():
    """Of the 252 regroupings of 5 + 5, whose sizes come in twos, 12 lie in the outermost 5 %."""
    rng, studies = np.random.default_rng(0), 1_500
    rejected = [permutation_p(rng.normal(90, 1, 5), rng.normal(90, 1, 5)) < 0.05 for _ in range(studies)]
    assert np.mean(rejected) == pytest.approx(12 / 252, abs=4 * math.sqrt(0.05 * 0.95 / studies))


# The sign-flip test


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=8), sizes)
@settings(deadline=None, max_examples=40)
def test_the_p_of_pairs_is_the_count_of_signs_that_add_up_to_as_much(gaps, size):
    assert sign_flip_p(percent(gaps, size)) == pytest.approx(float(flipped_p(gaps)))


@pytest.mark.parametrize("n", [2, 5, 6, 10, 16])
def test_pairs_that_all_go_one_way_have_the_smallest_p(n):
    gaps = 1 + 0.1 * np.arange(n)
    assert sign_flip_p(gaps) == sign_flip_p(-gaps) == 2 / 2**n


def test_many_pairs_are_drawn_near_the_exact_p_and_always_alike():
    gaps = np.random.default_rng(3).integers(-40, 60, 18)
    sums = np.zeros(1, int)
    for gap in gaps:
        sums = np.concatenate([sums + gap, sums - gap])
    exact, found = float((np.abs(sums) >= abs(gaps.sum())).mean()), sign_flip_p(gaps / 3.6)
    assert 0.001 < exact < 0.9
    assert abs(found - exact) < 4 * math.sqrt(exact * (1 - exact) / RESAMPLES)
    assert found == sign_flip_p(gaps / 3.6)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_p_of_pairs_does_not_depend_on_sign_or_order(gaps, random):
    found = sign_flip_p(gaps)
    assert 0 < found <= 1
    assert sign_flip_p([-gap for gap in gaps]) == found
    assert sign_flip_p(random.sample(gaps, len(gaps))) == pytest.approx(found)


def test_pairs_without_a_difference_have_p_one():
    assert sign_flip_p([0.0] * 6) == 1
    assert sign_flip_p([1.0, -1.0, 0.0]) == 1


def test_one_value_has_no_p():
    assert all(map(math.isnan, (sign_flip_p([1.0]), permutation_p([1.0], [1.0, 2.0]), permutation_p([1.0, 2.0], []))))


# The crossed bootstrap

RIGHT = np.array([[100, 0, 100, 30], [0, 0, 100, 90], [100, 100, 20, 0]], float)


def pigeonhole_variance(right: np.ndarray) -> float:
    """Of the mean, seeds and images both drawn again (Owen 2007): of seeds, of images and of what is left."""
    seeds, images = right.mean(1, keepdims=True), right.mean(0, keepdims=True)
    left = right - seeds - images + right.mean()
    return float(seeds.var() / len(right) + images.var() / right.shape[1] + left.var() / right.size)


def every_draw(right: np.ndarray) -> np.ndarray:
    """The mean of each draw there is, one after the other."""
    rows, columns = (list(itertools.product(range(n), repeat=n)) for n in right.shape)
    means = [right[np.ix_(seeds, images)].mean() for seeds in rows for images in columns]
    return np.array(means)


def test_every_draw_there_is_varies_as_the_formula_says():
    means = every_draw(RIGHT)
    assert means.mean() == pytest.approx(RIGHT.mean())
    assert means.var() == pytest.approx(pigeonhole_variance(RIGHT))


def test_the_draws_are_distributed_as_every_draw_there_is():
    """2,000 draws: the mean within four standard errors, the variance too, and the distance of the distributions."""
    found, means = crossed_draws(RIGHT, stream=2), every_draw(RIGHT)
    assert found.shape == (BOOTSTRAPS,)
    assert abs(found.mean() - means.mean()) < 4 * means.std() / math.sqrt(BOOTSTRAPS)
    fourth = ((means - means.mean()) ** 4).mean()
    assert abs(found.var() - means.var()) < 4 * math.sqrt((fourth - means.var() ** 2) / BOOTSTRAPS)
    levels = np.unique(means.round(6)) + 1e-3
    apart = [abs((found <= level).mean() - (means <= level).mean()) for level in levels]
    assert max(apart) < 2.2 / math.sqrt(BOOTSTRAPS), "Kolmogorov's distance, whose chance is below 1 in 5,000"


@pytest.mark.parametrize("stream", [0, 1, 7])
def test_draws_of_a_real_size_vary_as_the_formula_says(stream):
    rng = np.random.default_rng(stream)
    chance = 0.75 + 0.1 * rng.standard_normal((6, 1)) + 0.2 * rng.standard_normal(300)
    right = 100.0 * (rng.random((6, 300)) < chance)
    found, variance = crossed_draws(right, stream), pigeonhole_variance(right)
    assert abs(found.mean() - right.mean()) < 4 * math.sqrt(variance / BOOTSTRAPS)
    assert found.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / BOOTSTRAPS))


def test_chance_of_single_answers_counts_three_times():
    """With seeds, with images and with both: the side that errs is the safe one (Owen 2007, theorem 3)."""
    found = [
        crossed_draws(np.random.default_rng(study).normal(0, 10, (30, 40)), study).var() / (100 / 1200)
        for study in range(20)
    ]
    expected, error = 29 / 30 + 39 / 40 + 29 / 30 * 39 / 40, np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(expected, abs=4 * math.hypot(error, math.sqrt(2 / BOOTSTRAPS)))


def test_equal_streams_draw_equal_seeds():
    """What pairs share cancels; another stream draws others."""
    shared = np.random.default_rng(0).normal(80, 5, (5, 1)) + np.zeros(200)
    ahead = shared + 1.5
    np.testing.assert_allclose(crossed_draws(ahead, 3) - crossed_draws(shared, 3), 1.5, atol=1e-4)
    apart = crossed_draws(ahead, 3) - crossed_draws(shared, 4)
    assert apart.var() == pytest.approx(2 * shared[:, 0].var() / 5, rel=0.2)


@pytest.mark.parametrize("streams", [(0, 0), (0, 1), (5, 9)])
def test_every_arm_meets_the_same_images(streams):
    shared = np.zeros((4, 1)) + 100.0 * (np.random.default_rng(0).random(200) < 0.8)
    more_seeds = np.vstack([shared, shared])
    first, second = crossed_draws(shared, streams[0]), crossed_draws(more_seeds, streams[1])
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert first.std() == pytest.approx(shared[0].std() / math.sqrt(200), rel=4 * math.sqrt(0.5 / BOOTSTRAPS))


def test_draws_are_the_same_every_time():
    found = crossed_draws(RIGHT, 1)
    resampling._image_counts.cache_clear()
    np.testing.assert_array_equal(found, crossed_draws(RIGHT, 1))
    assert not np.array_equal(found, crossed_draws(RIGHT, 2))
