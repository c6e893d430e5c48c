"""Statistics against scipy, closed forms, and a permutation test counted in exact fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from attnbench.resampling import EXACT_UP_TO, RESAMPLES, permutation_p
from attnbench.stats import difference, estimate

images = st.sampled_from([50, 360, 5400])
"""Sizes of a test set: an accuracy is a share of it, so that equal accuracies are common."""


@st.composite
def two_arms(draw, most: int = 5):
    """Right answers of two arms on one test set, and its size."""
    size = draw(images)
    arm = st.lists(st.integers(size * 9 // 10, size), min_size=2, max_size=most)
    return draw(arm), draw(arm), size


def percent(arm: list[int], size: int) -> list[float]:
    return [100 * right / size for right in arm]


def squared_t(one: tuple[int, ...], two: tuple[int, ...]) -> Fraction | float:
    """Welch's t squared, without rounding; infinite where means differ and nothing is spread."""
    means = [Fraction(sum(arm), len(arm)) for arm in (one, two)]
    spreads = [
        sum((value - mean) ** 2 for value in arm) / (len(arm) - 1) / len(arm)
        for arm, mean in zip((one, two), means, strict=True)
    ]
    gap = (means[0] - means[1]) ** 2
    return gap / sum(spreads) if sum(spreads) else math.inf if gap else Fraction(0)


def counted_p(one: list[int], two: list[int]) -> Fraction:
    """The share of all regroupings that lie at least as far apart as the arms do."""
    pool, observed = [*one, *two], squared_t(tuple(one), tuple(two))
    groups = [set(group) for group in itertools.combinations(range(len(pool)), len(one))]
    far = sum(
        squared_t(
            tuple(value for place, value in enumerate(pool) if place in group),
            tuple(value for place, value in enumerate(pool) if place not in group),
        )
        >= observed
        for group in groups
    )
    return Fraction(far, len(groups))


# Intervals


@given(st.lists(st.floats(0, 100, allow_subnormal=False), min_size=2, max_size=12))
@settings(deadline=None)
def test_a_mean_has_students_interval(values):
    found, n = estimate(values), len(values)
    half = oracle.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    assert (found.mean, found.n) == (pytest.approx(np.mean(values)), n)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=1e-9)


def test_the_interval_of_two_values_is_the_tables():
    """t(0.975, 1) = 12.706; the mean's standard error is half the distance."""
    assert estimate([90.0, 92.0]).high - 91.0 == pytest.approx(12.7062, abs=1e-4)


@given(two_arms(most=9))
@settings(deadline=None, max_examples=50)
def test_a_difference_has_welchs_interval(arms):
    one, two = percent(arms[0], arms[2]), percent(arms[1], arms[2])
    first, second = (np.var(arm, ddof=1) / len(arm) for arm in (one, two))
    assume(first + second > 1e-9)
    freedom = (first + second) ** 2 / (first**2 / (len(one) - 1) + second**2 / (len(two) - 1))
    half = oracle.t.ppf(0.975, freedom) * math.sqrt(first + second)
    found = difference(one, two)
    assert found.mean == pytest.approx(np.mean(one) - np.mean(two), abs=1e-9)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=1e-9)


def test_a_difference_says_how_many_runs_each_arm_has():
    found = difference([90.0, 91.0, 92.0], [89.0, 88.0])
    assert (found.n, found.n_baseline) == (3, 2)


# The permutation test


@pytest.mark.parametrize(
    ("n", "m", "p"), [(2, 2, 2 / 6), (3, 3, 2 / 20), (4, 4, 2 / 70), (5, 5, 2 / 252), (10, 10, 2 / 184_756)]
)
def test_arms_apart_have_the_smallest_p_of_their_design(n, m, p):
    """Only the observed grouping and its mirror image lie as far apart."""
    high, low = 95 + 0.13 * np.arange(n), 90 + 0.13 * np.arange(m)
    assert difference(high, low).p_value == pytest.approx(p)
    assert difference(low, high).p_value == pytest.approx(p)


@given(two_arms())
@settings(deadline=None, max_examples=60)
def test_p_is_the_count_of_regroupings_at_least_as_far_apart(arms):
    """Equal accuracies make many regroupings equally far apart: rounding must not lose one of them."""
    one, two, size = arms
    found = difference(percent(one, size), percent(two, size)).p_value
    assert found == pytest.approx(float(counted_p(one, two)))


@pytest.mark.parametrize(
    ("one", "two", "size"),
    [
        ([4889, 4925, 4894], [4993, 4948, 4889, 4899], 5400),
        ([331, 330, 324, 328, 329], [334, 326, 326, 334, 333], 360),
        ([325, 334, 332, 332], [330, 332, 328, 325], 360),
    ],
)
def test_ties_between_regroupings_survive_rounding(one, two, size):
    found = difference(percent(one, size), percent(two, size)).p_value
    assert found == pytest.approx(float(counted_p(one, two)))


@given(two_arms())
@settings(deadline=None, max_examples=40)
def test_arms_changed_about_change_the_sign_and_nothing_else(arms):
    one, two = percent(arms[0], arms[2]), percent(arms[1], arms[2])
    there, back = difference(one, two), difference(two, one)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value)


@given(two_arms(), st.floats(-50, 50), st.sampled_from([0.01, 0.5, 3.0]))
@settings(deadline=None, max_examples=40)
def test_p_does_not_depend_on_the_unit_or_the_origin(arms, shift, scale):
    one, two = (np.array(percent(arm, arms[2])) for arm in arms[:2])
    moved = difference(scale * one + shift, scale * two + shift)
    assert moved.p_value == pytest.approx(difference(one, two).p_value)
    assert moved.mean == pytest.approx(scale * (one.mean() - two.mean()), abs=1e-9)


def test_equal_arms_have_p_one():
    assert difference([90.0, 91.0, 92.5], [92.5, 90.0, 91.0]).p_value == 1


# The edges


@pytest.mark.parametrize(("one", "two"), [([90.0], [80.0, 81.0]), ([80.0, 81.0], [90.0]), ([90.0], [80.0])])
def test_one_seed_has_a_difference_and_no_statement_about_it(one, two):
    found = difference(one, two)
    assert found.mean == np.mean(one) - np.mean(two)
    assert all(map(math.isnan, (found.low, found.high, found.p_value)))


def test_one_seed_has_a_mean_and_no_interval():
    found = estimate([93.5])
    assert (found.mean, found.n) == (93.5, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("low", [10.0, 89.0, 0.1])
def test_arms_without_any_spread_have_a_finite_difference_and_an_exact_p(low):
    """What constant(value=0) does: the same chance accuracy for every seed."""
    there, back = difference([90.0] * 5, [low] * 5), difference([low] * 5, [90.0] * 5)
    assert (there.low, there.high) == pytest.approx((90 - low, 90 - low))
    assert there.p_value == back.p_value == pytest.approx(2 / 252)


def test_one_arm_without_spread_is_no_trouble(recwarn):
    found = difference([90.0, 91.0, 92.0], [10.0] * 3)
    assert all(map(math.isfinite, (found.low, found.high)))
    assert found.p_value == pytest.approx(2 / 20)
    assert not recwarn.list


def test_equal_values_everywhere_are_no_difference():
    found = difference([50.0, 50.0], [50.0, 50.0, 50.0])
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


# Above 10 + 10


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
