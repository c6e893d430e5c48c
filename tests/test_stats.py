"""Estimates, differences and corrections against scipy, statsmodels and closed forms, and what must not move them."""

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from attnbench.analysis.resampling import bootstrap_variance, permutation_p
from attnbench.analysis.stats import churn, correlation, crossed, difference, equivalence_p, estimate, holm, superiority

MARGIN = 0.513
"""No difference of two means of the accuracies below is exactly that."""
accuracies = st.integers(330, 360).map(lambda right: right / 3.6)
p_values = st.lists(st.floats(1e-6, 1) | st.sampled_from([0.01, 0.04]), min_size=1, max_size=8)
PAIRINGS = pytest.mark.parametrize("pairing", ["independent", "paired"])
INDEPENDENT = [([90.1, 91.3, 92.0], [89.9, 90.2, 90.4]), ([90.1, 95.3, 92.0, 91.0], [90.2, 90.4]), ([3, 9], [1, 2, 4])]
PAIRED = [([90.1, 91.3, 92.0], [89.9, 90.2, 90.4]), ([91.5, 90.2, 93.1, 92.2], [90.5, 90.0, 92.0, 91.9])]
EVERY = [(*arms, "independent") for arms in INDEPENDENT] + [(*arms, "paired") for arms in PAIRED]


@st.composite
def two_arms(draw, pairing: str, most: int = 4):
    """Accuracies of two arms; of pairs as many of each."""
    n = draw(st.integers(2, most))
    m = n if pairing == "paired" else draw(st.integers(2, most))
    return tuple(np.array(draw(st.lists(accuracies, min_size=size, max_size=size))) for size in (n, m))


# Intervals


@given(st.lists(st.floats(0, 100, allow_subnormal=False), min_size=2, max_size=12))
@settings(deadline=None, max_examples=50)
def test_a_mean_has_students_interval(values):
    found, n = estimate(values), len(values)
    half = oracle.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)
    assert (found.mean, found.n) == (pytest.approx(np.mean(values)), n)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=1e-9)


def test_the_interval_of_two_values_is_the_tables():
    """t(0.975, 1) = 12.706; the mean's standard error is half the distance."""
    assert estimate([90.0, 92.0]).high - 91.0 == pytest.approx(12.7062, abs=1e-4)


@PAIRINGS
@given(data=st.data())
@settings(deadline=None, max_examples=30)
@pytest.mark.filterwarnings("ignore:Precision loss")
def test_a_difference_has_scipys_interval(pairing, data):
    one, two = data.draw(two_arms(pairing, most=6))
    assume(np.ptp(one - two if pairing == "paired" else one) > 1e-6)
    theirs = oracle.ttest_rel(one, two) if pairing == "paired" else oracle.ttest_ind(one, two, equal_var=False)
    found = difference(one, two, pairing)
    if len(one) != len(two):  # the smaller arm's degrees of freedom, not Satterthwaite's
        error = math.sqrt(one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two))
        half = oracle.t.ppf(0.975, min(len(one), len(two)) - 1) * error
        assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=1e-6)
        return
    assert found.mean == pytest.approx(one.mean() - two.mean(), abs=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()), abs=1e-6)
    assert (found.n, found.n_baseline) == (len(one), len(two))


# What must not move a difference


@PAIRINGS
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_arms_changed_about_change_the_sign_and_nothing_else(pairing, data):
    one, two = data.draw(two_arms(pairing))
    there, back = difference(one, two, pairing), difference(two, one, pairing)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low), abs=1e-9)
    assert back.p_value == pytest.approx(there.p_value)
    assert 0 < there.p_value <= 1
    same = [equivalence_p(*arms, MARGIN, pairing) for arms in ((one, two), (two, one))]
    assert same[0] == pytest.approx(same[1], abs=1e-9, nan_ok=True)


@PAIRINGS
@given(data=st.data(), shift=st.floats(-50, 50), scale=st.sampled_from([0.01, 0.5, 3.0]))
@settings(deadline=None, max_examples=30)
def test_p_does_not_depend_on_the_unit_or_the_origin(pairing, data, shift, scale):
    one, two = data.draw(two_arms(pairing))
    found, moved = (difference(*arms, pairing) for arms in ((one, two), (scale * one + shift, scale * two + shift)))
    assert moved.p_value == pytest.approx(found.p_value)
    assert (moved.mean, moved.low) == pytest.approx((scale * found.mean, scale * found.low), abs=1e-6)
    same = equivalence_p(one, two, MARGIN, pairing)
    scaled = equivalence_p(scale * one + shift, scale * two + shift, scale * MARGIN, pairing)
    assert scaled == pytest.approx(same, abs=1e-6, nan_ok=True)


@PAIRINGS
@given(data=st.data(), random=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_the_order_of_the_seeds_does_not_matter(pairing, data, random):
    """Of pairs both arms are reordered alike."""
    one, two = data.draw(two_arms(pairing))
    first, second = (random.sample(range(len(arm)), len(arm)) for arm in (one, two))
    mixed = one[first], two[first if pairing == "paired" else second]
    found, there = difference(one, two, pairing), difference(*mixed, pairing)
    numbers = (found.mean, found.low, found.high, found.p_value)
    assert (there.mean, there.low, there.high, there.p_value) == pytest.approx(numbers, abs=1e-9)


# The edges


@pytest.mark.parametrize(("one", "two"), [([90.0], [80.0, 81.0]), ([80.0, 81.0], [90.0]), ([90.0], [80.0])])
def test_one_seed_has_a_difference_and_no_statement_about_it(one, two):
    found = difference(one, two)
    assert found.mean == np.mean(one) - np.mean(two)
    assert all(map(math.isnan, (found.low, found.high, found.p_value, equivalence_p(one, two, 1.0))))


def test_one_seed_has_a_mean_and_no_interval():
    found, new = estimate([93.5]), crossed(0.5, 93.5, math.nan, math.nan, 1)
    assert (found.mean, found.n) == (new.mean, new.n) == (93.5, 1)
    assert all(map(math.isnan, (found.low, found.high, new.low, new.high)))


@pytest.mark.parametrize("low", [10.0, 89.0, 0.1])
def test_arms_without_any_spread_have_a_finite_difference_and_an_exact_p(low):
    """What constant(value=0) does: the same chance accuracy for every seed."""
    there, back = difference([90.0] * 5, [low] * 5), difference([low] * 5, [90.0] * 5)
    assert (there.low, there.high) == pytest.approx((90 - low, 90 - low))
    assert there.p_value == back.p_value == pytest.approx(2 / 252)
    assert difference([90.0] * 5, [low] * 5, "paired").p_value == 2 / 32


def test_one_arm_without_spread_is_no_trouble(recwarn):
    found = difference([90.0, 91.0, 92.0], [10.0] * 3)
    assert all(map(math.isfinite, (found.low, found.high)))
    assert found.p_value == pytest.approx(2 / 20)
    assert not recwarn.list


@pytest.mark.parametrize(("one", "two"), [([50.0, 50.0], [50.0] * 3), ([90.0, 91.0, 92.5], [92.5, 90.0, 91.0])])
def test_equal_arms_are_no_difference(one, two):
    found = difference(one, two)
    assert (found.mean, found.p_value) == (pytest.approx(0), 1)
    assert found.low == pytest.approx(-found.high)


# Equivalence and Holm's correction


@pytest.mark.parametrize(("one", "two", "pairing"), [arms for arms in EVERY if len(arms[0]) == len(arms[1])])
@pytest.mark.parametrize("margin", [0.3, 1.0, 4.0])
def test_equivalence_is_statsmodels_two_one_sided_tests(one, two, pairing, margin):
    from statsmodels.stats.weightstats import ttost_ind, ttost_paired

    one, two = np.array(one, float), np.array(two, float)
    theirs = ttost_paired if pairing == "paired" else functools.partial(ttost_ind, usevar="unequal")
    assert equivalence_p(one, two, margin, pairing) == pytest.approx(theirs(one, two, -margin, margin)[0])


def test_arms_of_unequal_size_have_the_degrees_of_freedom_of_the_smaller_one():
    one, two = np.array([90.1, 95.3, 92.0, 91.0, 92.4]), np.array([90.2, 90.4, 91.1])
    error = math.sqrt(one.var(ddof=1) / 5 + two.var(ddof=1) / 3)
    gap = one.mean() - two.mean()
    assert equivalence_p(one, two, 4.0) == pytest.approx(oracle.t.sf((4.0 - gap) / error, 2))
    assert difference(one, two).p_value >= 2 * oracle.t.sf(gap / error, 2)


@PAIRINGS
def test_two_seeds_are_never_equivalent(pairing):
    assert math.isnan(equivalence_p([99.5, 99.5], [99.5, 99.5], 1.0, pairing))


@PAIRINGS
def test_values_that_tie_have_the_spread_of_rounding(pairing):
    """Three runs that all have 199 of 200 images right may well differ by half an image."""
    tied, unit = [99.5] * 3, 0.5
    error = math.sqrt(2 * unit**2 / 12 / 3)
    found = difference(tied, tied, pairing, unit)
    freedom = 2 if pairing == "paired" else 4
    assert found.high == -found.low == pytest.approx(oracle.t.ppf(0.975, freedom) * error)
    assert equivalence_p(tied, tied, 1.0, pairing, unit) == pytest.approx(oracle.t.sf(1.0 / error, freedom))


def test_p_is_the_larger_one_of_the_permutation_test_and_welchs():
    rng = np.random.default_rng(3)
    for wide in (1.0, 6.0):
        one, two = rng.normal(1, wide, 6), rng.normal(0, 1, 6)
        welch = oracle.ttest_ind(one, two, equal_var=False).pvalue
        assert difference(one, two).p_value == pytest.approx(max(welch, permutation_p(one, two)))


@pytest.mark.parametrize(("two", "p"), [(90.5, 0.0), (91.0, 1.0), (92.0, 1.0), (89.5, 0.0), (88.5, 1.0)])
def test_arms_without_any_spread_are_equivalent_inside_the_margin(two, p):
    assert equivalence_p([90.0] * 3, [two] * 3, 1.0) == equivalence_p([90.0] * 3, [two] * 3, 1.0, "paired") == p


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12])
def test_holms_correction_is_that_of_statsmodels(size):
    from statsmodels.stats.multitest import multipletests

    values = np.random.default_rng(size).beta(0.4, 3, size).round(2)  # with ties
    assert holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]))


@given(p_values, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_holms_correction_keeps_the_order_and_knows_no_other(values, random):
    found, places = holm(values), random.sample(range(len(values)), len(values))
    assert holm([values[place] for place in places]) == pytest.approx([found[place] for place in places])
    assert all(p <= adjusted <= 1 for p, adjusted in zip(values, found, strict=True))
    assert [adjusted for _, adjusted in sorted(zip(values, found, strict=True))] == sorted(found)


def test_an_arm_without_p_stays_and_counts_in_the_family():
    found = holm([0.02, math.nan, 0.01])
    assert (found[0], found[2]) == pytest.approx((0.04, 0.03))
    assert math.isnan(found[1])
    assert holm([]) == []


# What goes together


def test_correlation_is_pearsons_with_fishers_interval_and_what_pairs_save():
    rng = np.random.default_rng(4)
    one = rng.normal(90, 1, 12)
    two = one + rng.normal(0, 2, 12)
    found, r = correlation(one, two), oracle.pearsonr(one, two).statistic
    low, high = np.tanh(np.arctanh(r) + np.array([-1, 1]) * oracle.norm.ppf(0.975) / 3)
    assert (found.r, found.low, found.high, found.n) == pytest.approx((r, low, high, 12))
    assert found.saved == pytest.approx((one.var() + two.var()) / (one - two).var())
    assert found.saved_low < found.saved < found.saved_high


@pytest.mark.parametrize(("one", "two"), [([1.0, 2.0], [1.0, 3.0]), ([1.0, 2.0, 4.0], [5.0, 5.0, 5.0]), ([], [])])
def test_too_few_seeds_or_no_spread_have_no_correlation(one, two, recwarn):
    found = correlation(one, two)
    assert all(map(math.isnan, (found.r, found.low, found.saved, found.saved_high)))
    assert not recwarn.list


@pytest.mark.parametrize(("sign", "r", "saved"), [(1, 1, 1e9), (-1, -1, 0.5)])
def test_arms_in_lockstep_have_a_finite_saving(sign, r, saved):
    found = correlation([90.0, 91.0, 93.0, 94.0], [sign * value for value in (0.0, 1.0, 3.0, 4.0)])
    assert (found.r, found.saved) == pytest.approx((r, saved), rel=1e-6)


def test_churn_is_the_share_of_images_told_apart():
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 3, (4, 20)), rng.integers(0, 3, (4, 20))
    shares = [100 * sum(a != b for a, b in zip(*rows, strict=True)) / 20 for rows in zip(one, two, strict=True)]
    assert churn(one, two) == estimate(shares)


# P(A > B)

STRATA = [
    [([3.0, 5.0, 5.0, 7.0], [2.0, 5.0, 6.0])],
    [([3.0, 5.0], [4.0, 6.0, 1.0]), ([2.0, 2.0], [2.0, 9.0]), ([8.0, 7.0, 9.0, 9.0], [1.0, 1.0])],
]


def score_limits(strata: list, share: float) -> list[float]:
    """Where (theta - share)^2 = z^2 V(theta), Newcombe's method 5, as the real roots of a polynomial."""
    theta, z = np.polynomial.Polynomial([0, 1]), 1.959963984540054
    spread = np.polynomial.Polynomial([0])
    for one, two in strata:
        m, n = len(one), len(two)
        grown = (1 - theta) * (1 + theta) + theta * (2 - theta)  # over (2 - theta)(1 + theta)
        spread += theta * (1 - theta) * ((2 - theta) * (1 + theta) + ((m + n) / 2 - 1) * grown) / (m * n)
    excess = (theta - share) ** 2 * (2 - theta) * (1 + theta) - z**2 * spread / len(strata) ** 2
    roots = np.asarray(excess.roots(), complex)
    return sorted(float(r.real) for r in roots if abs(r.imag) < 1e-9 and -1e-9 <= r.real <= 1 + 1e-9)


@pytest.mark.parametrize("strata", STRATA)
def test_superiority_is_the_share_of_pairs_won_with_newcombes_interval(strata):
    wins = [[1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(*arms)] for arms in strata]
    found, share = superiority(strata), np.mean([np.mean(stratum) for stratum in wins])
    assert (found.mean, found.n) == (pytest.approx(share), len(strata))
    assert [found.low, found.high] == pytest.approx(score_limits(strata, share))
    back = superiority([(two, one) for one, two in strata])
    assert (back.mean, back.low, back.high) == pytest.approx((1 - found.mean, 1 - found.high, 1 - found.low))


def test_superiority_has_a_width_where_all_of_one_arm_lie_above_all_of_the_other():
    above, below = superiority([([5.0, 6.0, 7.0], [1.0, 2.0])]), superiority([([1.0, 2.0], [5.0, 6.0, 7.0])])
    assert (above.mean, above.high, below.mean, below.low) == (1, 1, 0, 0)
    limit = score_limits([([5.0, 6.0, 7.0], [1.0, 2.0])], 1.0)[0]
    assert above.low == pytest.approx(1 - below.high) == pytest.approx(limit) == pytest.approx(0.4, abs=0.2)


@pytest.mark.parametrize(("chance", "n", "m"), [(0.5, 6, 6), (0.8, 5, 10), (0.95, 8, 8)])
def test_superiority_holds_the_truth_in_about_95_percent_of_studies(chance, n, m):
    """At most two points more than that, and no fewer."""
    rng, apart, studies = np.random.default_rng(n), oracle.norm.ppf(chance) * math.sqrt(2), 2_000
    found = [superiority([(rng.normal(apart, 1, n), rng.normal(0, 1, m))]) for _ in range(studies)]
    error = math.sqrt(0.95 * 0.05 / studies)
    assert 0.95 - 4 * error < np.mean([each.low <= chance <= each.high for each in found]) < 0.97 + 4 * error


# New images


@pytest.mark.parametrize("n", [2, 5, 30])
def test_where_images_add_nothing_the_interval_for_new_images_is_students(n):
    """Drawing from n seeds makes the variance too small by (n - 1)/n, and the interval puts that back."""
    values = np.random.default_rng(n).normal(90, 1, n)
    mean, error = float(values.mean()), float(oracle.sem(values))
    expected, found = (
        estimate(values),
        crossed(bootstrap_variance(values[:, None] + np.zeros(50)), mean, error, n - 1, n),
    )
    assert (found.mean, found.low, found.high) == pytest.approx((mean, expected.low, expected.high))


def test_where_seeds_add_nothing_the_interval_for_new_images_is_the_images_normal():
    right = 100.0 * (np.random.default_rng(0).random(400) < 0.8) + np.zeros((6, 1))
    found = crossed(bootstrap_variance(right), float(right.mean()), 0.0, 5, 6)
    half = oracle.norm.ppf(0.975) * right[0].std() / math.sqrt(400)
    assert found.high - right.mean() == pytest.approx(half)


def test_between_the_two_degrees_of_freedom_are_satterthwaites():
    """A quarter of the variance is the seeds': 5 degrees of freedom become 5 * 4^2."""
    found = crossed(4 - 1 / 6, 10.0, 1.0, 5, 6)
    assert found.high - 10 == pytest.approx(10 - found.low) == pytest.approx(2 * oracle.t.ppf(0.975, 80))
