"""Intervals of accuracies: Student's in the middle, never beyond 0 and 100 %, and right where almost all is right."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from attnbench.analysis.accuracies import accuracy, accuracy_on_new_images
from attnbench.analysis.resampling import bootstrap_variance
from attnbench.analysis.stats import Estimate, estimate

counts = st.integers(2, 9).flatmap(lambda n: st.lists(st.integers(0, 60), min_size=n, max_size=n))


def score_interval(mean: float, error: float, freedom: float, answers: float) -> tuple[float, float]:
    """The shares that lie from the mean by t standard errors of their own, as roots of a square."""
    share, bound = mean / 100, oracle.t.ppf(0.975, freedom)
    number = share * (1 - share) / (error / 100) ** 2 if 0 < share < 1 else answers
    low, high = np.roots([1 + bound**2 / number, -2 * share - bound**2 / number, share**2])[::-1]
    return 100 * float(low), 100 * float(high)


def logit(percent: float) -> float:
    return math.log(percent / (100 - percent))


def spans(found: Estimate) -> tuple[float, float]:
    return found.low, found.high


def test_the_interval_is_wilsons_with_the_spread_that_was_measured():
    values = np.array([98.0, 99.0, 98.5, 99.5, 97.5])
    found = accuracy(values, 200)
    assert (found.mean, found.n) == (98.5, 5)
    assert spans(found) == pytest.approx(score_interval(98.5, float(oracle.sem(values)), 4, 1_000))


def test_on_new_images_its_error_is_that_of_seeds_and_images_crossed():
    rng = np.random.default_rng(0)
    right = 100.0 * (rng.random((6, 150)) < rng.beta(8, 1, 150))
    values = right.mean(1)
    error = float(oracle.sem(values))
    variance = bootstrap_variance(right) + error**2 / 6
    found = accuracy_on_new_images(right)
    expected = score_interval(values.mean(), math.sqrt(variance), 5 * variance**2 / error**4, 150)
    assert (found.mean, found.n) == (pytest.approx(values.mean()), 6)
    assert spans(found) == pytest.approx(expected)


@given(counts)
@settings(deadline=None, max_examples=60)
def test_no_interval_leaves_0_to_100_and_its_ends_lie_alike_on_the_logit_scale(right):
    values = np.array(right) / 0.6
    found, flipped = accuracy(values, 60), accuracy(100 - values, 60)
    assert 0 <= found.low < found.high <= 100
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    assert spans(flipped) == pytest.approx((100 - found.high, 100 - found.low), abs=1e-9)
    if 0 < found.mean < 100:
        middle = logit(found.mean)
        assert logit(found.high) - middle == pytest.approx(middle - logit(found.low), rel=1e-6)


def test_where_the_spread_is_small_and_the_middle_near_it_is_students():
    values = np.array([60.1, 60.3, 59.9, 60.2, 60.0, 60.1])
    assert spans(accuracy(values, 10_000)) == pytest.approx(spans(estimate(values)), abs=1e-3)


@pytest.mark.parametrize("n", [2, 4, 10])
def test_all_right_has_an_interval_with_one_side_that_narrows_with_seeds_and_images(n):
    found, new = accuracy([100.0] * n, 359), accuracy_on_new_images(np.full((n, 359), 100.0))
    assert (found.high, new.high) == (pytest.approx(100), pytest.approx(100))
    bound = oracle.t.ppf(0.975, n - 1) ** 2
    assert found.low == pytest.approx(100 / (1 + bound / (n * 359)))
    assert new.low == pytest.approx(100 / (1 + oracle.norm.ppf(0.975) ** 2 / 359), abs=1e-3), "like the rule of three"
    assert accuracy([0.0] * n, 359).high == pytest.approx(100 - found.low)
    assert accuracy([100.0] * n, 3_590).low > found.low


def test_seeds_that_agree_to_the_image_may_vary_by_half_of_one():
    found = accuracy([99.0] * 4, 100)
    half = oracle.t.ppf(0.975, 3) * 0.5 / math.sqrt(4)
    assert spans(found) == pytest.approx(score_interval(99.0, half / oracle.t.ppf(0.975, 3), 3, 400))
    assert found.high - found.low > 0.5


def test_one_seed_has_a_mean_and_no_interval():
    found = accuracy([93.5], 200)
    assert (found.mean, found.n) == (93.5, 1)
    assert all(map(math.isnan, spans(found)))
    assert accuracy_on_new_images(np.full((1, 20), 100.0)) is None


@pytest.mark.parametrize("seeds", [6, 10])
@pytest.mark.parametrize("spread", [0.1, 0.45])
def test_at_99_and_a_half_percent_of_359_images_95_percent_of_intervals_hold_the_truth(seeds, spread):
    """Where Student's hold it in 92 % or less; a probit with crossed effects, as in the benchmark."""
    rng, studies = np.random.default_rng(seeds), 400
    reach = math.sqrt(1 + 1.5**2 + spread**2)
    ability, held = float(oracle.norm.ppf(0.995)) * reach, np.zeros((studies, 2), bool)
    for study in range(studies):
        images = ability + 1.5 * rng.standard_normal(359)
        known = images + spread * rng.standard_normal((seeds, 1))
        right = 100.0 * (rng.standard_normal((seeds, 359)) < known)
        here = 100 * oracle.norm.cdf(images / math.hypot(1, spread)).mean()
        found, new = accuracy(right.mean(1), 359), accuracy_on_new_images(right)
        held[study] = found.low <= here <= found.high, new.low <= 99.5 <= new.high
    assert (held.mean(0) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / studies)).all(), held.mean(0)
