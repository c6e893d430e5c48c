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

from attnbench.analysis.resampling import EXACT_UP_TO, RESAMPLES, bootstrap_variance, permutation_p, sign_flip_p

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


def every_draw(right: np.ndarray) -> np.ndarray:
    """The mean of each draw there is, one after the other."""
    rows, columns = (list(itertools.product(range(n), repeat=n)) for n in right.shape)
    means = [right[np.ix_(seeds, images)].mean() for seeds in rows for images in columns]
    return np.array(means)


OTHER = np.array([[100, 20, 0, 100], [70, 0, 100, 0]], float)
"""Of two more seeds, on the same four images."""


def test_every_draw_there_is_varies_as_the_closed_form_says():
    means = every_draw(RIGHT)
    assert means.mean() == pytest.approx(RIGHT.mean())
    assert means.var() == pytest.approx(bootstrap_variance(RIGHT))


def test_every_draw_of_two_arms_with_the_same_images_varies_as_the_closed_form_says():
    """Seeds are drawn apart, images together: each draw of images with each of the seeds of both."""
    sizes = (len(RIGHT), len(OTHER), RIGHT.shape[1])
    seeds, others, images = (list(itertools.product(range(n), repeat=n)) for n in sizes)
    means = [
        np.array([arm[:, drawn].mean(1)[list(rows)].mean() for rows in these])
        for drawn in map(list, images)
        for arm, these in ((RIGHT, seeds), (OTHER, others))
    ]
    gaps = np.concatenate([np.subtract.outer(*two).ravel() for two in zip(means[::2], means[1::2], strict=True)])
    assert gaps.mean() == pytest.approx(RIGHT.mean() - OTHER.mean())
    assert gaps.var() == pytest.approx(bootstrap_variance(RIGHT, OTHER)) == pytest.approx(byhand(RIGHT, OTHER))


def byhand(one: np.ndarray, two: np.ndarray) -> float:
    """By the moments, as Owen (2007) has them: nothing is centred first."""

    def own(x: np.ndarray) -> float:
        (s, n), m = x.shape, x.mean()
        seeds, images = (x.mean(1) ** 2).mean(), (x.mean(0) ** 2).mean()
        inner = (1 - 1 / n) / s * seeds + (1 - 1 / s) / n * images + (x**2).mean() / (s * n)
        return float((1 - 1 / s) * (1 - 1 / n) * m**2 + inner - m**2)

    together = ((one.mean(0) * two.mean(0)).mean() - one.mean() * two.mean()) / one.shape[1]
    return own(one) + own(two) - 2 * float(together)


@pytest.mark.parametrize(("n", "m", "images"), [(2, 2, 1), (5, 3, 200), (10, 10, 57)])
def test_the_closed_form_is_that_of_the_moments(n, m, images):
    rng = np.random.default_rng(images)
    one, two = (100.0 * (rng.random((seeds, images)) < 0.8) for seeds in (n, m))
    assert bootstrap_variance(one, two) == pytest.approx(byhand(one, two), rel=1e-9)
    assert bootstrap_variance(two, one) == pytest.approx(byhand(one, two), rel=1e-9)


def test_drawn_bootstraps_of_a_real_size_vary_as_the_closed_form_says():
    """2,000 draws of two arms: their variance has a relative standard error of sqrt(2 / 2,000)."""
    rng = np.random.default_rng(0)
    level = 0.75 + 0.2 * rng.standard_normal(300)
    rights = [100.0 * (rng.random((n, 300)) < level + 0.1 * rng.standard_normal((n, 1))) for n in (6, 4)]
    drawn = []
    for _ in range(2_000):
        images = rng.integers(0, 300, 300)
        one, two = (
            arm.mean() for arm in (right[rng.integers(0, len(right), len(right))][:, images] for right in rights)
        )
        drawn.append(one - two)
    assert np.var(drawn) == pytest.approx(bootstrap_variance(*rights), rel=4 * math.sqrt(2 / 2_000))


def test_chance_of_single_answers_counts_three_times():
    """With seeds, with images and with both: the side that errs is the safe one (Owen 2007, theorem 3)."""
    found = [
        bootstrap_variance(np.random.default_rng(study).normal(0, 10, (30, 40))) / (100 / 1200) for study in range(40)
    ]
    expected, error = 29 / 30 + 39 / 40 + 29 / 30 * 39 / 40, np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(expected, abs=4 * error)


def test_what_pairs_share_cancels_and_what_images_share_cancels_always():
    seeds, images = np.random.default_rng(0).normal(80, 5, (5, 1)), np.random.default_rng(1).normal(0, 9, 200)
    shared = seeds + images
    assert bootstrap_variance(shared + 1.5 - shared) == pytest.approx(0, abs=1e-20)
    assert bootstrap_variance(shared, shared[:3] + 1.5) == pytest.approx(seeds.var() / 5 + seeds[:3].var() / 3)
