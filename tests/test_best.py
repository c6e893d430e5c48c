"""The set that holds the best arm, against scipy's Dunnett and by simulation; and how far luck carries the largest."""

import math

import numpy as np
import pytest
from scipy import integrate
from scipy import stats as oracle

from attnbench.analysis.best import (
    among_best,
    among_best_any_time,
    among_best_pairs,
    dunnett_p,
    expected_maximum,
)

RNG = np.random.default_rng(3)


def test_p_is_scipys_dunnetts():
    """Whose numbers are drawn, to about three digits."""
    arms = [RNG.normal(shift, 1, 6) for shift in (0, 0.5, 1.0, 2.0, 0.2)]
    variance, freedom = np.mean([arm.var(ddof=1) for arm in arms]), 25
    found = oracle.dunnett(*arms[1:], control=arms[0], alternative="greater", rng=0).pvalue
    ours = [dunnett_p(arm.mean() - arms[0].mean(), math.sqrt(variance / 3), freedom, 4) for arm in arms[1:]]
    for one, two in zip(ours, found, strict=True):
        assert one == pytest.approx(two, abs=2e-3) or (one == 1 and two > 0.5)


@pytest.mark.parametrize(("gap", "freedom"), [(0.3, 2.5), (2.1, 8), (3.0, 40), (6.0, 4)])
def test_p_lies_between_a_single_t_tests_and_sidaks(gap, freedom):
    alone = float(oracle.t.sf(gap, freedom))
    assert alone < dunnett_p(gap, 1.0, freedom, 11) < 1 - (1 - alone) ** 11
    assert dunnett_p(gap, 1.0, freedom, 1) == pytest.approx(alone, rel=0.02, abs=1e-4)
    assert dunnett_p(0.0, 1.0, freedom, 11) == 1
    assert dunnett_p(gap, 0.0, freedom, 11) == 0


def test_an_arm_is_out_where_another_is_clearly_better_and_ties_are_in():
    jitter = np.array([0.0, 0.3, -0.2, 0.1, -0.1, 0.05])
    arms = [level + jitter for level in (90.0, 93.0, 93.0, 92.9, 89.0)]
    assert among_best(arms) == [False, True, True, True, False]
    assert among_best_pairs(arms) == [False, True, True, False, False], "pairs see 0.1 points of no spread"


def test_one_wide_arm_neither_hides_the_others_nor_is_out_by_their_spread():
    """The common spread of all arms would do both."""
    narrow = [np.array([-1.0, 0.0, 1.0, 0.5, -0.5]) / 10 + level for level in (90.0, 90.0, 92.0)]
    wide = np.array([86.0, 94.0, 90.0, 88.0, 92.5])
    assert among_best([*narrow, wide]) == [False, False, True, True]


def test_one_seed_neither_is_out_nor_puts_out(recwarn):
    sure = np.array([90.0, 90.1, 90.2, 90.1])
    assert among_best([np.array([99.0]), sure, np.array([50.0]), sure - 9]) == [True, True, True, False]
    assert among_best([np.array([99.0]), np.array([50.0])]) == [True, True]
    alone = [np.array([99.0, math.nan, math.nan]), np.array([50.0, 51.0, math.nan]), np.array([math.nan, 40.0, 43.0])]
    assert among_best_pairs(alone) == [True, True, True]
    assert among_best([sure]) == among_best_pairs([sure]) == [True]
    tied = [np.array([level, level]) for level in (80.1, 80.2, 80.0)]
    assert among_best(tied) == among_best_pairs(tied) == [True, True, True], "two tie too easily"
    assert not recwarn.list


def test_pairs_find_what_seeds_in_common_hide():
    shared = RNG.normal(90, 3, 8)
    arms = [shared + 0.5, shared + np.tile([0.1, -0.1], 4), shared + np.tile([-0.1, 0.1], 4)]
    assert among_best_pairs(arms) == [True, False, False]
    assert among_best(arms) == [True, True, True]


WORLDS = {
    "all equal": (lambda arms: np.zeros(arms), lambda arms: np.ones(arms), 5, 5),
    "best wide, few": (lambda arms: np.zeros(arms), lambda arms: np.r_[4.0, np.ones(arms - 1)], 3, 6),
    "best narrow, many": (lambda arms: np.zeros(arms), lambda arms: np.r_[0.25, np.ones(arms - 1)], 8, 4),
    "two ahead": (lambda arms: np.r_[0, 0, np.full(arms - 2, -2.0)], lambda arms: np.linspace(0.5, 2, arms), 5, 5),
}


@pytest.mark.parametrize(("world", "arms"), [*((world, 3) for world in WORLDS), ("all equal", 12), ("two ahead", 12)])
def test_the_truly_best_arm_is_in_the_set_in_95_percent_of_studies(world, arms):
    """The first arm is a truly best one; `n` of its seeds against `m` of the others'."""
    levels, spreads, n, m = WORLDS[world]
    rng, studies, held = np.random.default_rng(arms), 200, 0
    for _ in range(studies):
        drawn = [
            level + spread * rng.standard_normal(m if place else n)
            for place, (level, spread) in enumerate(zip(levels(arms), spreads(arms), strict=True))
        ]
        held += among_best(drawn)[0]
    assert held / studies > 0.95 - 4 * math.sqrt(0.95 * 0.05 / studies)


def test_where_every_run_is_a_look_arms_are_out_by_the_bet_alone():
    drawn = [RNG.normal(level, 1, 30) for level in (90, 90, 94)]
    assert among_best_any_time(drawn) == [False, False, True]
    assert among_best_any_time([row[:3] for row in drawn]) == [True, True, True]
    assert among_best_any_time([np.where(np.arange(30) < 1, drawn[0], np.nan), drawn[2]]) == [True, True]


def test_the_set_is_small_where_one_arm_is_far_ahead():
    drawn = RNG.standard_normal((30, 5))
    drawn[7] += 6
    assert among_best(list(drawn)) == [place == 7 for place in range(30)]


# Luck


@pytest.mark.parametrize("arms", [2, 5, 30, 70])
def test_the_largest_of_equal_means_is_that_of_normal_order_statistics(arms):
    expected, _ = integrate.quad(lambda x: x * arms * oracle.norm.pdf(x) * oracle.norm.cdf(x) ** (arms - 1), -9, 12)
    assert expected_maximum([0.3] * arms) == pytest.approx(0.3 * expected, rel=1e-6)


def test_unequal_errors_are_those_of_many_draws():
    sizes = np.array([1.0, 2.0, 0.5, 0.01])
    drawn = (np.random.default_rng(0).standard_normal((200_000, 4)) * sizes).max(1)
    assert expected_maximum(sizes) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / math.sqrt(len(drawn)))


def test_one_mean_is_0_on_average_and_so_are_means_without_error():
    assert expected_maximum([0.7]) == pytest.approx(0, abs=1e-12)
    assert expected_maximum([0.0, 0.0]) == 0
    assert expected_maximum([0.5 / math.sqrt(8)] * 30) == pytest.approx(0.36, abs=0.005)
