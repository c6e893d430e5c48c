"""Two arms that were picked from many: p and interval over all pairs at once, against scipy and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats as oracle

from attnbench.analysis.pairs import number_of_pairs, pooled, simultaneous
from attnbench.analysis.stats import difference

RNG = np.random.default_rng(5)
ARMS = [RNG.normal(90 + shift, 1, 6) for shift in (0, 0, 3, 0.5)]
UNEQUAL = [RNG.normal(90, 1 + place, 4 + 2 * place) for place in range(4)]


def games_howell(one, two, k: int) -> tuple[float, float]:
    """p and half width by hand."""
    shares = [np.var(arm, ddof=1) / len(arm) for arm in (one, two)]
    freedom = sum(shares) ** 2 / sum(share**2 / (len(arm) - 1) for share, arm in zip(shares, (one, two), strict=True))
    error = math.sqrt(sum(shares) / 2)
    p = oracle.studentized_range.sf(abs(np.mean(one) - np.mean(two)) / error, k, freedom)
    return float(p), float(oracle.studentized_range.ppf(0.95, k, freedom)) * error


@pytest.mark.parametrize("arms", [ARMS, UNEQUAL], ids=["equal", "unequal"])
def test_p_is_the_larger_of_tukeys_and_games_and_howells_and_the_interval_the_wider(arms):
    tukey = oracle.tukey_hsd(*arms)
    limits = tukey.confidence_interval(0.95)
    for one in range(4):
        for two in range(4):
            if one == two:
                continue
            found, alone = simultaneous(arms[one], arms[two], arms), difference(arms[one], arms[two])
            p, half = games_howell(arms[one], arms[two], 4)
            assert found.p_value == pytest.approx(max(p, tukey.pvalue[one, two], alone.p_value), abs=1e-6)
            half = max(half, (limits.high[one, two] - limits.low[one, two]) / 2)
            assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), rel=1e-4)
            assert (found.mean, found.n, found.n_baseline) == (alone.mean, alone.n, alone.n_baseline)


def test_pairs_of_seeds_have_bonferronis_correction_over_all_pairs_of_arms():
    found, alone = (how(ARMS[2], ARMS[0], *rest, "paired") for how, rest in ((simultaneous, [ARMS]), (difference, [])))
    gaps = ARMS[2] - ARMS[0]
    half = oracle.t.ppf(1 - 0.05 / 6 / 2, 5) * oracle.sem(gaps)
    assert found.p_value == pytest.approx(min(1, 6 * alone.p_value))
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))


def test_of_two_arms_there_is_one_pair_and_of_twenty_190():
    assert simultaneous(*ARMS[:2], ARMS[:2]) == difference(*ARMS[:2])
    assert [number_of_pairs(arms) for arms in (2, 3, 20)] == [1, 3, 190]


def test_never_is_more_said_than_the_two_arms_alone_say():
    """Three seeds each cannot reach p = 0.1 by regrouping, however far apart they are."""
    arms = [np.array([90.0, 90.1, 90.2]) + shift for shift in (0, 0, 9)]
    assert simultaneous(arms[2], arms[0], arms).p_value == difference(arms[2], arms[0]).p_value == pytest.approx(0.1)


def test_arms_without_spread_and_arms_of_one_seed_have_numbers_where_they_can(recwarn):
    flat = [np.full(5, 90.0), np.full(5, 90.0), np.full(5, 95.0)]
    assert simultaneous(flat[0], flat[1], flat).p_value == 1
    assert simultaneous(flat[0], flat[2], flat).p_value == difference(flat[0], flat[2]).p_value
    lone = simultaneous(np.array([90.0]), ARMS[0], [np.array([90.0]), *ARMS])
    assert all(map(math.isnan, (lone.p_value, lone.low)))
    assert pooled([np.array([1.0]), np.array([1.0, 3.0]), np.array([2.0, 2.0, 5.0])]) == (pytest.approx(8 / 3), 3)
    assert not recwarn.list


@pytest.mark.parametrize(("arms", "seeds"), [(3, 3), (12, 5), (30, 5), (30, 8)])
def test_the_best_of_equal_arms_is_better_than_the_worst_in_at_most_5_percent_of_studies(arms, seeds):
    """Where "a single comparison" finds it better in up to 89 %; one arm may have four times the spread."""
    rng, studies = np.random.default_rng(arms + seeds), 150
    for spread in (np.ones((arms, 1)), np.r_[4.0, np.ones(arms - 1)][:, None]):
        false = 0
        for _ in range(studies):
            drawn = spread * rng.standard_normal((arms, seeds))
            means = drawn.mean(1)
            best, worst = drawn[means.argmax()], drawn[means.argmin()]
            false += simultaneous(best, worst, list(drawn)).p_value < 0.05
        assert false / studies < 0.05 + 4 * math.sqrt(0.05 * 0.95 / studies)
