"""Several data sets to one statement, against statsmodels, baycomp, brute force and published examples."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.meta_analysis import combine_effects

from attnbench.analysis import resampling
from attnbench.analysis.pooling import BORROWED, added, on_these, random_effects, ranks
from attnbench.analysis.resampling import Stratum, permutation_p, sign_flip_p, stratified_p
from attnbench.analysis.stats import gap

KNOWN = math.inf
"""Degrees of freedom of an error that is known: it borrows nothing."""


def study(sets: int, tau: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Differences and their standard errors."""
    rng = np.random.default_rng((sets, int(10 * tau), seed))
    errors = rng.uniform(0.2, 1, sets)
    return rng.normal(0.3, np.hypot(tau, errors)), errors


def strata(*sizes: tuple[int, int], seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [Stratum(rng.normal(1, 1, n), rng.normal(0, 1, m), place + 1.0) for place, (n, m) in enumerate(sizes)]


def by_hand(given: list) -> float:
    """The share of all combinations of regroupings whose weighted sum of differences is as large."""
    sums = [0.0]
    for one, two, weight, _ in given:
        pooled, n = np.concatenate([one, two]), len(one)
        chosen = [list(first) for first in itertools.combinations(range(len(pooled)), n)]
        gaps = [pooled[first].mean() - np.delete(pooled, first).mean() for first in chosen]
        sums = [total + weight * own for total in sums for own in gaps]
    observed = sum(weight * (np.mean(one) - np.mean(two)) for one, two, weight, _ in given)
    return float(np.mean(np.abs(sums) >= abs(observed) - 1e-9))


# Data sets like these


@pytest.mark.parametrize("tau", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("sets", [2, 3, 4, 8, 15])
def test_the_random_effects_mean_is_statsmodels_with_hartung_and_knapps_interval(sets, tau):
    effects, errors = study(sets, tau)
    theirs = combine_effects(effects, errors**2, method_re="iterated", atol=1e-7)
    found = random_effects(effects, errors, [KNOWN] * sets)
    assert found.tau.mean**2 == pytest.approx(theirs.tau2, rel=1e-5, abs=1e-6)
    assert found.mean == pytest.approx(theirs.mean_effect_re, rel=1e-5)
    error = max(theirs.sd_eff_w_re_hksj, theirs.sd_eff_w_re)  # what Hartung and Knapp give, kept from shrinking
    half = stats.t.ppf(0.975, sets - 1) * error
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), rel=1e-4)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.mean) / error, sets - 1), rel=1e-4)


def test_what_a_new_data_set_shows_is_as_published():
    """The 13 trials of Hartung and Knapp 2001, whose prediction interval R's pimeta prints: 0.533 to 33.692 as a ratio.

    There tau is drawn by another sum of squares, with weights that do not depend on it: no digit but the first agrees.
    """
    treated = np.array([[15, 12, 29, 42, 14, 44, 14, 29, 10, 17, 38, 19, 21],
                        [16, 16, 34, 56, 22, 54, 17, 58, 14, 26, 44, 29, 38]])  # fmt: skip
    control = np.array([[9, 1, 18, 31, 6, 17, 7, 23, 3, 6, 12, 22, 19],
                        [16, 16, 34, 56, 22, 55, 15, 58, 15, 27, 45, 30, 38]])  # fmt: skip
    counts = [count + 0.5 for won, of in (treated, control) for count in (won, of - won)]
    ratios = np.log(counts[0] * counts[3] / counts[1] / counts[2])
    found = random_effects(ratios, np.sqrt(sum(1 / count for count in counts)), [KNOWN] * 13)
    assert (found.new.low, found.new.high) == pytest.approx(np.log([0.533, 33.692]), abs=0.1)


def test_a_new_data_set_is_drawn_with_all_that_is_not_known_of_tau():
    effects, errors = study(5, 1.0)
    found, rng, drawn = random_effects(effects, errors, [KNOWN] * 5), np.random.default_rng(1), []
    for wanted in stats.chi2.ppf((np.arange(400) + 0.5) / 400, 4):

        def off(between, wanted=wanted):
            weights = 1 / (errors**2 + between)
            return weights @ (effects - np.average(effects, weights=weights)) ** 2 - wanted

        between = brentq(off, 0, 1e6) if off(0) > 0 else 0.0
        weights = 1 / (errors**2 + between)
        error = math.sqrt((off(between) + wanted) / 4 / weights.sum())
        middle = np.average(effects, weights=weights)
        drawn.append(middle + math.sqrt(between) * rng.normal(size=500) + error * rng.standard_t(4, 500))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found.new.low, found.new.high) == pytest.approx((low, high), abs=0.05 * (high - low))
    assert found.new.low < found.low < found.high < found.new.high


def test_two_data_sets_predict_nothing():
    found = random_effects([0.1, 0.5], [0.1, 0.2], [KNOWN] * 2)
    assert math.isnan(found.new.low)
    assert not math.isnan(found.low)


def test_taus_interval_ends_where_the_weighted_sum_of_squares_is_hardly_as_it_is():
    effects, errors = study(8, 2.0)
    found = random_effects(effects, errors, [KNOWN] * 8)
    for tau, share in ((found.tau.low, 0.975), (found.tau.high, 0.025)):
        weights = 1 / (errors**2 + tau**2)
        squares = weights @ (effects - np.average(effects, weights=weights)) ** 2
        assert squares == pytest.approx(stats.chi2.ppf(share, 7), rel=1e-6)
    assert found.tau.low < found.tau.mean < found.tau.high
    assert random_effects([1.0, 1.01, 0.99], [1.0] * 3, [KNOWN] * 3).tau.low == 0


def test_variances_from_few_seeds_borrow_from_the_other_data_sets():
    effects, errors = study(5, 0.5)
    freedom = np.array([4.0, 8.0, 2.0, 6.0, 4.0])
    shares = BORROWED / (BORROWED + freedom)
    moderated = np.sqrt(shares * np.mean(errors**2) + (1 - shares) * errors**2)
    found, known = random_effects(effects, errors, freedom), random_effects(effects, moderated, [KNOWN] * 5)
    assert (found.mean, found.low, found.tau.mean) == pytest.approx((known.mean, known.low, known.tau.mean))


def test_where_an_error_is_unknown_the_interval_is_students_over_the_differences():
    effects, errors = study(5, 0.5)
    found = random_effects(effects, [math.nan, *errors[1:]], [math.nan, 4, 4, 4, 4])
    low, high = stats.t.interval(0.95, 4, effects.mean(), stats.sem(effects))
    assert (found.mean, found.low, found.high) == pytest.approx((effects.mean(), low, high))
    assert found.tau.mean == pytest.approx(effects.std(ddof=1))


def test_differences_that_are_all_equal_say_nothing_of_their_spread_where_errors_are_unknown():
    for unknown in (math.nan, 0.0):
        found = random_effects([0.5] * 4, [unknown] * 4, [4.0] * 4)
        assert found.mean == 0.5
        assert all(map(math.isnan, (found.low, found.p_value, found.tau.mean, found.new.low)))
    assert math.isnan(random_effects([0.5], [0.1], [4.0]).low)


def test_a_data_set_without_spread_does_not_decide_alone():
    found = random_effects([0.1, 0.9, 1.1], [0.0, 0.5, 0.5], [4.0] * 3)
    assert 0.2 < found.mean < 0.9
    assert found.low < 0 < found.high


def test_the_unit_and_the_order_of_data_sets_change_nothing():
    effects, errors = study(6, 1.0)
    freedoms = np.array([3.0, 4, 5, 6, 7, 8])
    found, turned = (random_effects(effects[::s], errors[::s], freedoms[::s]) for s in (1, -1))
    assert (turned.mean, turned.low, turned.tau.mean) == pytest.approx((found.mean, found.low, found.tau.mean))
    other = random_effects(-1000 * effects, 1000 * errors, freedoms)
    assert (other.low, other.tau.mean, other.new.high) == pytest.approx(
        (-1000 * found.high, 1000 * found.tau.mean, -1000 * found.new.low)
    )
    assert other.p_value == pytest.approx(found.p_value)


@pytest.mark.parametrize(("middle", "decided"), [(0.0, False), (1.5, True), (-1.5, True)])
def test_the_bayesian_signed_rank_test_of_baycomp_is_of_the_same_opinion(middle, decided):
    from baycomp import SignedRankTest

    sets = 12
    effects = middle + stats.norm.ppf((np.arange(sets) + 0.5) / sets)
    found = random_effects(effects, [0.1] * sets, [8.0] * sets)
    left, right = SignedRankTest.probs(np.zeros(sets), effects, rope=0, nsamples=20_000, random_state=0)
    assert (found.p_value < 0.05) == decided
    assert (max(left, right) > 0.975) == decided
    assert right > left if middle > 0 else right < left if middle < 0 else abs(right - left) < 0.2


# These data sets


@pytest.mark.parametrize(
    "sizes", [[(3, 3)], [(3, 3), (2, 4)], [(2, 3), (3, 2), (2, 2)], [(1, 1)] * 6, [(1, 4), (5, 1)]]
)
def test_the_stratified_p_is_the_share_of_all_combinations_of_regroupings(sizes):
    for seed in range(4):
        given = strata(*sizes, seed=seed)
        assert stratified_p(given) == pytest.approx(by_hand(given))


def test_ties_with_the_observed_sum_count_whatever_rounding_makes_of_them():
    tied = [([0.1 + 0.2, 0.3, 0.7], [0.3, 0.1, 0.7], 0.1), ([1.1, 0.9, 1.0], [1.0, 1.0, 1.0], 0.3)]
    assert stratified_p([Stratum(np.array(a), np.array(b), w) for a, b, w in tied]) == pytest.approx(
        by_hand([Stratum(np.round(a, 6), np.round(b, 6), w) for a, b, w in tied])
    )
    assert stratified_p([Stratum(np.ones(2), np.ones(2))] * 3) == 1.0


def test_one_run_an_arm_on_each_data_set_makes_a_sign_flip_test():
    given = strata(*[(1, 1)] * 9)
    assert stratified_p(given) == pytest.approx(sign_flip_p([w * (a[0] - b[0]) for a, b, w, _ in given]))


def test_pairs_change_signs_and_not_groups():
    given = strata((4, 4), (3, 3))
    flips = itertools.product([-1, 1], repeat=7)
    gaps = np.concatenate([w * (a - b) / len(a) for a, b, w, _ in given])
    sums = np.abs([np.dot(signs, gaps) for signs in flips])
    assert stratified_p(given, "paired") == pytest.approx(np.mean(sums >= abs(gaps.sum()) - 1e-9))


@pytest.mark.parametrize("sizes", [[(5, 5), (4, 4)], [(6, 3), (3, 5)]])
def test_drawn_combinations_come_near_to_all_of_them(sizes, monkeypatch):
    given = strata(*sizes, seed=3)
    whole = stratified_p(given)
    monkeypatch.setattr(resampling, "EXACT_UP_TO", 4)
    resampling.regroupings.cache_clear()
    assert stratified_p(given) == pytest.approx(whole, abs=6 * math.sqrt(whole * (1 - whole) / 99_999))
    resampling.regroupings.cache_clear()


def test_many_values_have_the_p_of_the_law_that_their_regroupings_come_near_to():
    rng = np.random.default_rng(5)
    given = [Stratum(rng.normal(0.13, 1, 110), rng.exponential(1, 130) - 1, weight) for weight in (1.0, 2.0)]
    sums = np.zeros(20_000)
    for one, two, weight, _ in given:
        pooled = np.concatenate([one, two])
        drawn = rng.permuted(np.tile(pooled, (len(sums), 1)), axis=1)
        sums += weight * (drawn[:, :110].mean(1) - drawn[:, 110:].mean(1))
    observed = abs(sum(w * (one.mean() - two.mean()) for one, two, w, _ in given))
    share = float(np.mean(np.abs(sums) >= observed))
    assert stratified_p(given) == pytest.approx(share, abs=0.015)


def test_an_empty_stratum_has_no_p():
    assert math.isnan(stratified_p([Stratum(np.array([]), np.ones(1))]))


def test_in_a_single_cell_the_sum_is_its_difference_with_welchs_interval():
    (one, two, *_), *_ = strata((6, 6))
    found, alone = on_these([Stratum(one, two)]), gap(one, two)
    assert (found.mean, found.low, found.high) == pytest.approx((alone.mean, alone.low, alone.high))
    assert (found.n, found.n_baseline) == (6, 6)
    assert found.p_value == pytest.approx(permutation_p(one, two), abs=0.02)


def test_variances_of_cells_add_and_degrees_of_freedom_are_satterthwaites():
    given = strata((5, 5), (6, 6), (3, 3), seed=2)
    mean, error, freedom = added(given)
    shares = [(w**2 * np.var(x, ddof=1) / len(x), len(x) - 1) for *pair, w, _ in given for x in pair]
    total = sum(share for share, _ in shares)
    assert mean == pytest.approx(sum(w * (one.mean() - two.mean()) for one, two, w, _ in given))
    assert error == pytest.approx(math.sqrt(total))
    assert freedom == pytest.approx(total**2 / sum(share**2 / own for share, own in shares))


def test_p_on_these_data_sets_is_the_larger_of_two():
    given = strata((8, 3), (8, 3), seed=1)
    mean, error, freedom = added(given)
    welch = 2 * stats.t.sf(abs(mean) / error, freedom)
    assert on_these(given).p_value == pytest.approx(max(welch, stratified_p(given)))
    alone = strata(*[(1, 1)] * 7)
    assert on_these(alone).p_value == stratified_p(alone)
    assert math.isnan(on_these(alone).low)


# Ranks

AUC = """.763 .768 .771 .798  .599 .591 .590 .569  .954 .971 .968 .967  .628 .661 .654 .657  .882 .888 .886 .898
.936 .931 .916 .931  .661 .668 .609 .685  .583 .583 .563 .625  .775 .838 .866 .875  1 1 1 1  .940 .962 .965 .962
.619 .666 .614 .669  .972 .981 .975 .974  .957 .978 .946 .970"""


def test_the_worked_example_of_demsar_comes_out_as_published():
    """Demšar 2006, table 6 and section 3.2.2: four learners on fourteen data sets (.974 is .975 there, and third)."""
    found = ranks(["C4.5", "+m", "+cf", "+m+cf"], np.array(AUC.split(), float).reshape(14, 4))
    assert found is not None
    assert found.arms == ("+m+cf", "+m", "+cf", "C4.5")
    assert found.means == pytest.approx((1.964, 2.000, 2.893, 3.143), abs=5e-4)
    assert found.critical == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert found.groups == [("+m+cf", "+m", "+cf", "C4.5")]  # 3.143 - 1.964 < 1.25


@pytest.mark.parametrize("tied", [False, True])
def test_friedmans_test_is_scipys_in_the_form_of_iman_and_davenport(tied):
    table = np.random.default_rng(1).normal([0, 0, 0.5, 1], size=(9, 4))
    table = np.round(table, 0 if tied else 6)
    found = ranks(list("abcd"), table)
    chi2 = stats.friedmanchisquare(*table.T).statistic
    assert found.p_value == pytest.approx(stats.f.sf(8 * chi2 / (9 * 3 - chi2), 3, 24))


def test_groups_are_the_longest_rows_that_are_not_told_apart():
    found = ranks(list("abcde"), np.tile([5.0, 4, 3, 2, 1], (20, 1)))
    assert found.groups == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
    assert found.p_value == pytest.approx(1 / math.factorial(5) ** 19)
    few = ranks(list("abc"), np.tile([3.0, 2, 1], (6, 1)))
    assert few.groups == [("a", "b"), ("b", "c")]


def test_below_six_data_sets_and_for_a_single_arm_there_are_no_ranks():
    assert ranks(["a", "b"], np.ones((5, 2))) is None
    assert ranks(["a"], np.ones((9, 1))) is None
    assert ranks(["a", "b"], np.ones((6, 2))).means == (1.5, 1.5)
