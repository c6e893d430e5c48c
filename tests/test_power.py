"""What a design is said to reach is what its tests reach: by oracles, at borders, and in simulated studies."""

import functools
import inspect
import math

import numpy as np
import pytest
from scipy import stats as oracle

from attnbench.analysis.power import (
    MOST_SEEDS,
    POWER,
    can_decide,
    detectable,
    equivalence_spread,
    further_seeds,
    probability,
    seeds_to_decide,
    smallest_p,
)
from attnbench.analysis.resampling import RESAMPLES, permutation_p, sign_flip_p
from attnbench.analysis.stats import equivalence_p

PAIRINGS = pytest.mark.parametrize("pairing", ["independent", "paired"])
STUDIES = 4_000
"""Simulated studies of normal accuracies, tested by t as the plan has it."""


def within(share: float, studies: int = STUDIES) -> float:
    """Four Monte Carlo standard errors of a share."""
    return 4 * math.sqrt(share * (1 - share) / studies)


def spread_of(n: int, spread: float, mean: float = 90.0) -> np.ndarray:
    """Values of exactly this mean and standard deviation."""
    values = np.random.default_rng(n).normal(0, 1, n)
    return mean + spread * (values - values.mean()) / values.std(ddof=1)


def share_decided(n, apart, margin, family, pairing, spreads) -> tuple[float, float]:
    """Shares of studies of n seeds that find a true difference, and that find equivalence where there is none."""
    rng = np.random.default_rng(n)
    noise = rng.standard_normal((len(spreads), 2, n)) * spreads[:, None, None]
    gaps, freedom = noise[:, 0] - noise[:, 1], 2 * n - 2
    error = np.sqrt(noise.var(2, ddof=1).sum(1) / n)
    if pairing == "paired":  # whose spread is that of the differences
        gaps, freedom = noise[:, 0], n - 1
        error = gaps.std(1, ddof=1) / math.sqrt(n)
    mean = gaps.mean(1)
    found = 2 * oracle.t.sf(np.abs(mean + apart) / error, freedom) < 0.05 / family
    same = oracle.t.sf((margin - np.abs(mean)) / error, freedom) < 0.05 / family
    return float(found.mean()), float(same.mean())


# The smallest p


@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 3), (4, 4), (3, 7), (10, 10), (10, 4), (12, 12), (2, 11), (11, 3)])
def test_the_smallest_p_is_what_arms_far_apart_reach(n, m):
    high, low = 95 + 0.1 * np.arange(n), 80 + 0.1 * np.arange(m)
    reached = permutation_p(high, low)
    drawn = within(reached, RESAMPLES) if max(n, m) > 10 else 1e-12
    assert smallest_p(n, m) == smallest_p(m, n) == pytest.approx(reached, abs=drawn)


@pytest.mark.parametrize("n", [2, 5, 6, 10, 16, 18, 25])
def test_the_smallest_p_of_pairs_is_what_pairs_that_all_go_one_way_reach(n):
    assert smallest_p(n, n, "paired") == pytest.approx(sign_flip_p(1 + 0.1 * np.arange(n)))


@PAIRINGS
def test_one_seed_reaches_nothing(pairing):
    assert smallest_p(1, 1, pairing) == 1
    assert not can_decide(1, 1, 1, pairing)
    assert (detectable(1, 1, 1, pairing), equivalence_spread(1, 1, 1.0, 1, pairing)) == (math.inf, 0)


KNOWN = [("independent", 1, 4), ("independent", 2, 5), ("independent", 11, 6), ("paired", 1, 6), ("paired", 12, 9)]


@pytest.mark.parametrize(("pairing", "family", "seeds"), KNOWN)
def test_the_fewest_seeds_that_can_decide(pairing, family, seeds):
    """4 + 4 reach 2/70, 5 + 5 2/252, 6 + 6 2/924; n pairs 2/2^n."""
    assert seeds_to_decide(family, pairing) == seeds
    assert [can_decide(n, n, family, pairing) for n in (seeds - 1, seeds, seeds + 1)] == [False, True, True]


# What is detectable


@pytest.mark.parametrize(("n", "m", "family"), [(5, 5, 1), (8, 8, 1), (8, 8, 12), (30, 30, 1)])
def test_what_is_detectable_is_statsmodels(n, m, family):
    from statsmodels.stats.power import TTestIndPower

    expected = TTestIndPower().solve_power(nobs1=n, ratio=m / n, alpha=0.05 / family, power=0.8, effect_size=None)
    assert detectable(n, m, family) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize(("n", "family", "power"), [(6, 1, 0.8), (12, 4, 0.8), (20, 1, 0.95)])
def test_what_is_detectable_in_pairs_is_statsmodels(n, family, power):
    from statsmodels.stats.power import TTestPower

    expected = TTestPower().solve_power(nobs=n, alpha=0.05 / family, power=power, effect_size=None)
    assert detectable(n, n, family, "paired", power) == pytest.approx(float(expected), rel=1e-3)


@PAIRINGS
@pytest.mark.parametrize(("n", "family"), [(6, 1), (12, 3), (25, 1)])
def test_a_detectable_difference_is_found_as_often_as_stated(pairing, n, family):
    size = detectable(n, n, family, pairing)
    found, _ = share_decided(n, size, 1.0, family, pairing, np.ones(STUDIES))
    assert found == pytest.approx(0.8, abs=within(0.8))


def test_the_exact_test_finds_a_detectable_difference_almost_as_often():
    """It is discrete: at 8 + 8 it loses at most four points to the t test of the plan."""
    rng, size, studies = np.random.default_rng(0), detectable(8, 8), 600
    found = [permutation_p(rng.normal(size, 1, 8), rng.normal(0, 1, 8)) < 0.05 for _ in range(studies)]
    assert 0.76 - within(0.8, studies) < np.mean(found) < 0.8 + within(0.8, studies)


@pytest.mark.parametrize(("n", "family", "pairing"), [(3, 1, "independent"), (4, 2, "independent"), (5, 1, "paired")])
def test_nothing_is_detectable_where_no_outcome_can_decide(n, family, pairing):
    assert detectable(n, n, family, pairing) == math.inf


@PAIRINGS
def test_more_seeds_detect_less_and_larger_families_need_more(pairing):
    by_seeds = [detectable(n, n, 2, pairing) for n in (8, 10, 20, 100, 900)]
    by_family = [detectable(12, 12, family, pairing) for family in (1, 2, 5, 12)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert by_family == sorted(by_family)
    assert detectable(12, 12, 1, pairing, power=0.9) > by_family[0]


# Equivalence


@PAIRINGS
@pytest.mark.parametrize(("n", "family", "margin"), [(3, 1, 1.0), (5, 1, 0.5), (8, 12, 1.0), (30, 3, 2.0)])
def test_the_largest_spread_is_the_border_of_equivalence(pairing, n, family, margin):
    """Equal means; paired arms of which one has no spread have differences with the other's."""
    border = equivalence_spread(n, n, margin, family, pairing)
    for factor, passes in ((0.999, True), (1.001, False)):
        one = spread_of(n, factor * border)
        two = np.full(n, 90.0) if pairing == "paired" else one
        assert (equivalence_p(one, two, margin, pairing) * family < 0.05) == passes


@PAIRINGS
def test_nothing_is_equivalent_below_three_seeds(pairing):
    assert equivalence_spread(2, 2, 1.0, 1, pairing) == 0


@pytest.mark.parametrize(("n", "m"), [(3, 10), (10, 3), (5, 8)])
def test_the_largest_spread_of_unequal_arms_is_the_border_of_their_test(n, m):
    border = equivalence_spread(n, m, 1.0)
    assert equivalence_p(spread_of(n, border), spread_of(m, border), 1.0) == pytest.approx(0.05)


# Further seeds

further = functools.partial(further_seeds, freedom=8, n=5, margin=1.0)


def test_further_seeds_are_never_planned_by_the_difference_observed():
    known = ["spread", "freedom", "n", "margin", "family", "pairing", "levels"]
    assert list(inspect.signature(further_seeds).parameters) == known


@PAIRINGS
def test_more_spread_and_larger_families_take_more_seeds(pairing):
    by_spread = [further(spread, family=2, pairing=pairing) for spread in (0.0, 0.3, 0.6, 1.2, 2.4)]
    by_family = [further(0.8, family=family, pairing=pairing) for family in (1, 2, 4, 12)]
    by_margin = [further(0.8, margin=margin, pairing=pairing) for margin in (2.0, 1.0, 0.5)]
    by_knowledge = [further(0.8, freedom=freedom, pairing=pairing) for freedom in (100, 30, 8, 4)]
    for found in (by_spread, by_family, by_margin, by_knowledge):
        assert found == sorted(found)
        assert found[0] < found[-1]


def test_spread_and_margin_have_no_unit_of_their_own():
    assert further(0.8, margin=1.0) == further(0.08, margin=0.1) == further(80.0, margin=100.0)


@PAIRINGS
@pytest.mark.parametrize("spread", [1e3, math.inf, math.nan])
def test_a_spread_beyond_hope_has_no_number(pairing, spread):
    assert further(spread, pairing=pairing) is None


def test_one_seed_knows_no_spread_and_has_no_number():
    assert further(1.0, freedom=0) is None


@PAIRINGS
@pytest.mark.parametrize("family", [1, 12])
def test_without_spread_as_many_are_asked_for_as_can_decide_at_all(pairing, family):
    assert further(0.0, n=2, family=family, pairing=pairing) == seeds_to_decide(family, pairing) - 2


@pytest.mark.parametrize("n", [MOST_SEEDS - 1, MOST_SEEDS, MOST_SEEDS + 200])
@pytest.mark.parametrize("spread", [0.5, 30.0])
def test_nobody_with_a_thousand_seeds_is_asked_for_fewer(n, spread):
    found = further(spread, freedom=2 * n - 2, n=n)
    assert found is None or found > 0


PROMISED = [(0.8, 8, 1, "independent"), (1.5, 18, 3, "independent"), (0.5, 4, 1, "paired"), (1.0, 7, 4, "paired")]


@pytest.mark.parametrize(("spread", "freedom", "family", "pairing"), PROMISED)
def test_that_many_more_seeds_decide_in_eighty_percent_of_studies(spread, freedom, family, pairing):
    """Where the true spread is what the estimate leaves open; with a fifth fewer seeds one of the two falls short."""
    seeds = 5 + further(spread, freedom=freedom, family=family, pairing=pairing)
    draws = oracle.chi2.rvs(freedom, size=STUDIES, random_state=1)
    true = spread * np.sqrt(freedom / draws)
    decided = [share_decided(n, 1.0, 1.0, family, pairing, true) for n in (seeds, seeds * 4 // 5)]
    assert min(decided[0]) > 0.8 - within(0.8)
    assert min(decided[1]) < 0.8 - within(0.8)


def test_where_only_the_most_extreme_regrouping_is_rare_enough_the_arms_must_lie_apart():
    """4 + 4 seeds: of 70 regroupings one and its mirror image reach p = 0.029; the next would give 0.057."""
    rng, size = np.random.default_rng(0), 2.5
    one, two = rng.normal(size, 1, (20_000, 4)), rng.normal(0, 1, (20_000, 4))
    apart = float(np.mean(one.min(1) > two.max(1)))
    assert probability(size, 4, 4) == pytest.approx(apart, abs=0.012)
    assert probability(size, 4, 4) < probability(size, 4, 4, level=0.06)
    assert probability(detectable(4, 4), 4, 4) == pytest.approx(POWER, abs=1e-6)
