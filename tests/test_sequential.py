"""Spending at a growing study: permutation laws by brute force, levels of published tables, bets by loops."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as oracle

from attnbench.analysis.anytime import (
    STAKES,
    any_time_equivalence_p,
    any_time_p,
    capital,
    confidence_sequence,
)
from attnbench.analysis.course import Course
from attnbench.analysis.power import smallest_p
from attnbench.analysis.resampling import flipped_t, permutation_p, regrouped_t, sign_flip_p
from attnbench.analysis.sequential import Spending, nominal_level, nominal_p_over, permutation_p_over

SIZES = ((2, 2), (4, 4))
PARTS = np.array([0.4, 0.6])


def arms(seed: int, n: int = 4, apart: float = 0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(90 + apart, 1, n), rng.normal(90, 1, n)


def welch(one, two) -> float:
    return abs(oracle.ttest_ind(one, two, equal_var=False).statistic)


def regrouped(one, two, sizes):
    """Every way to deal what each look added to the two arms again: two arms each time, as observed first."""
    ends = [(0, 0), *sizes]
    blocks = [(list(one[n : ends[k + 1][0]]), list(two[m : ends[k + 1][1]])) for k, (n, m) in enumerate(ends[:-1])]
    ways = []
    for here, there in blocks:
        pool = here + there
        chosen = itertools.combinations(range(len(pool)), len(here))
        ways.append([([pool[i] for i in c], [pool[i] for i in range(len(pool)) if i not in c]) for c in chosen])
    for picks in itertools.product(*ways):
        yield [value for pick in picks for value in pick[0]], [value for pick in picks for value in pick[1]]


def crossing_level(law: np.ndarray, parts: np.ndarray, row: int) -> float:
    """The smallest level at which a row crosses, found by trying them all: only where a budget grows can it change."""
    levels = sorted({count / len(law) / part for part in parts for count in range(len(law) + 1)})
    for level in levels:
        left = list(range(len(law)))
        for look, part in enumerate(parts):
            budget = int(level * part * len(law) + 1e-9)
            ordered = sorted(left, key=lambda each: -law[each, look])
            if budget >= len(ordered):
                return min(1.0, level)
            bound = law[ordered[budget], look] + 1e-9
            if law[row, look] > bound:
                return min(1.0, level)
            left = [each for each in left if law[each, look] <= bound]
    return 1.0


@pytest.mark.parametrize("apart", [0.0, 2.0, 5.0])
@pytest.mark.parametrize("sizes", [SIZES, ((2, 2), (3, 4)), ((3, 3), (5, 5))])
def test_the_law_over_looks_is_that_of_every_regrouping(sizes, apart):
    one, two = arms(1, 5, apart)
    one, two = one[: sizes[-1][0]], two[: sizes[-1][1]]
    brute = sorted(tuple(round(welch(a[:n], b[:m]), 6) for n, m in sizes) for a, b in regrouped(one, two, sizes))
    law = regrouped_t(one, two, sizes)
    found = sorted(tuple(row) for row in law.round(6))
    if all(n == m for n, m in sizes):  # of two mirror images one is kept
        found = sorted(found * 2)
    assert np.array(found) == pytest.approx(np.array(brute), abs=2e-6)
    assert law[0] == pytest.approx([welch(one[:n], two[:m]) for n, m in sizes])


@pytest.mark.parametrize("seed", range(6))
def test_p_over_looks_is_the_smallest_level_that_crosses(seed):
    one, two = arms(seed, 5, apart=1.5)
    sizes, parts = [(3, 3), (5, 5)], np.array([0.3, 0.7])
    law = regrouped_t(one, two, sizes)
    brute = [crossing_level(law[:, :1], parts[:1], 0), crossing_level(law, parts, 0)]
    found = [permutation_p_over(one, two, sizes[: k + 1], parts[: k + 1]) for k in range(2)]
    assert found == pytest.approx(brute, rel=2e-3)


@pytest.mark.parametrize("parts", [(0.4, 0.6), (0.8, 0.1), (0.05, 0.95)])
@pytest.mark.parametrize(("one", "two"), [arms(7), ([2.0, 2, 2, 1], [1.0, 1, 1, 2])])
def test_of_all_regroupings_no_more_than_a_level_have_a_smaller_p(one, two, parts):
    """What makes the test exact: whatever the values, over all ways to deal them p is at most g in a share of g."""
    found = np.array([permutation_p_over(a, b, SIZES, np.array(parts)) for a, b in regrouped(one, two, SIZES)])
    for level in np.unique(found):
        assert (found <= level).mean() <= level * 1.002 or level == 1
    assert (found < 1).any()


def test_with_one_look_p_is_that_of_the_usual_test():
    one, two = arms(3, 6, apart=1.0)
    whole = np.array([1.0])
    assert permutation_p_over(one, two, [(6, 6)], whole) == permutation_p(one, two)
    assert permutation_p_over(one, two, [(6, 6)], whole, "paired") == sign_flip_p(one - two)
    assert permutation_p_over(one, two, [(6, 6)], np.array([0.8])) == pytest.approx(permutation_p(one, two) / 0.8)
    assert nominal_p_over([0.03], [1.0], whole, 2) == 0.03


def test_signs_of_pairs_are_flipped_over_looks_too():
    gaps = np.array([0.4, 1.1, -0.3, 0.9, 0.7])
    brute = sorted(
        tuple(round(abs(sum(s * g for s, g in zip(signs[:n], gaps, strict=False))), 9) for n in (3, 5))
        for signs in itertools.product([1, -1], repeat=5)
    )
    law = flipped_t(gaps, [3, 5]) * np.sqrt([np.sum(gaps[:3] ** 2), np.sum(gaps**2)])
    assert np.array(sorted([tuple(row) for row in law.round(9)] * 2)) == pytest.approx(np.array(brute))


# Levels of single looks


def spending(alpha: float, fractions):
    """O'Brien and Fleming's bounds as Lan and DeMets spend them, two-sided."""
    one_sided = 2 - 2 * oracle.norm.cdf(oracle.norm.isf(alpha / 4) / np.sqrt(fractions))
    return np.diff(2 * one_sided, prepend=0) / alpha


@pytest.mark.parametrize(
    ("parts", "bounds"),
    [
        (spending(0.05, np.arange(1, 6) / 5), [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        (np.diff(np.log(1 + (math.e - 1) * np.arange(1, 6) / 5), prepend=0), [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_bounds_of_five_looks_are_the_published_ones(parts, bounds):
    """Jennison and Turnbull 2000, tables of chapter 7; those of Lan and DeMets 1983 for equal steps."""
    found = [nominal_level(range(1, k + 1), parts[:k], 0.05, 2) for k in range(1, 6)]
    assert [float(oracle.norm.isf(level / 2)) for level in found] == pytest.approx(bounds, abs=2e-3)


@pytest.mark.parametrize("sides", [1, 2])
def test_p_over_looks_crosses_where_the_bounds_say(sides):
    information, parts = [5.0, 8.0, 12.0, 20.0], Spending.plan([5, 8, 12, 20]).parts
    for look in range(4):
        bound = nominal_level(information[: look + 1], parts[: look + 1], 0.05, sides)
        for factor in (0.97, 1.03):
            p_values = [1.0] * look + [bound * factor]
            found = nominal_p_over(p_values, information[: look + 1], parts[: look + 1], sides)
            assert (found < 0.05) == (factor < 1)


def test_sums_that_grow_cross_as_often_as_planned():
    """40,000 random walks without drift, against bounds for five looks: 5 % cross, 3 standard errors allowed."""
    looks = Spending.plan([4, 8, 12, 16, 20])
    walks = np.cumsum(np.random.default_rng(0).standard_normal((40_000, 20)), 1)[:, np.array(looks.seeds) - 1]
    bounds = [nominal_level(looks.seeds[: k + 1], looks.parts[: k + 1], 0.05, 2) for k in range(5)]
    far = np.abs(walks) / np.sqrt(looks.seeds) > oracle.norm.isf(np.array(bounds) / 2)
    assert far.any(1).mean() == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 40_000))
    assert far[:, 0].mean() == pytest.approx(0.05 * looks.parts[0], abs=3e-3)


# Plans


def test_a_plan_spends_everything_by_its_last_look_and_open_looks_never_do():
    assert Spending.plan([5, 8, 12, 20]).spent[-1] == 1
    assert Spending.open([5, 13, 21, 40]).spent == pytest.approx((0.8, 0.9, 0.95, 0.975))


def test_a_look_that_cannot_decide_leaves_its_share_to_the_next():
    looks = Spending.plan([4, 8, 12])
    kept = looks.merged(lambda n: smallest_p(n, n), 0.05)
    assert kept.seeds == (8, 12)
    assert kept.parts == pytest.approx([looks.spent[1], 1 - looks.spent[1]])
    assert looks.merged(lambda n: 0.0, 0.05) == looks
    assert looks.merged(lambda n: 1.0, 0.05).seeds == ()


def at(one, two, looks: Spending, look: int, pairing="independent") -> Course:
    """The course of two arms up to a look, counted from 1."""
    known = looks.first(look)
    n = known.seeds[-1]
    return Course(one[:n], two[:n], tuple((n, n) for n in known.seeds), known, margin=0.5, pairing=pairing)


def test_a_verdict_at_an_early_look_is_never_taken_back():
    one, two = arms(11, 12, apart=3.0)
    one[6:] -= 3.0  # what came later says otherwise
    looks = Spending.plan([6, 8, 12])
    found = [at(one, two, looks, k).reading().p_value for k in (1, 2, 3)]
    assert found[0] < 0.05
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("pairing", ["independent", "paired"])
def test_the_interval_of_an_early_look_is_wider_than_that_of_a_look_of_its_own(pairing):
    one, two = arms(2, 12)
    looks = Spending.plan([6, 12])
    early = at(one, two, looks, 1, pairing).difference()
    alone = at(one, two, Spending.plan([6]), 1, pairing).difference()
    assert early.high - early.low > alone.high - alone.low
    assert (early.mean, early.p_value, early.n) == (alone.mean, alone.p_value, 6)


# At any time


def signs(n: int) -> np.ndarray:
    return np.array(list(itertools.product([1.0, -1.0], repeat=n)))


@pytest.mark.parametrize("sides", [1, 2])
def test_a_bet_on_fair_signs_gains_nothing_and_seldom_grows(sides):
    """Over all 4,096 signs of twelve differences of any sizes the mean capital is 1 after each."""
    sizes = np.random.default_rng(5).exponential(1, 12) + 0.1
    found = capital(signs(12) * sizes, sides)
    assert found.mean(0) == pytest.approx(np.ones(12))
    for level in (0.05, 0.2):
        assert (found.max(1) >= 1 / level).mean() <= level
    assert (found.max(1) >= 20).any()


def test_the_capital_is_its_formula():
    gaps, expected = [0.5, -0.2, 0.9, 1.4], []
    for n in range(1, 5):
        total = 0.0
        for stake, sign in itertools.product(STAKES, (1, -1)):
            product = 1.0
            for i in range(n):
                x = gaps[i] / math.sqrt(sum(g * g for g in gaps[: i + 1]) / (i + 1))
                product *= math.exp(sign * stake * x) / math.cosh(stake * x)
            total += product / (2 * len(STAKES))
        expected.append(total)
    assert capital(gaps) == pytest.approx(expected)
    assert any_time_p(gaps) == pytest.approx([1 / max(1.0, *expected[:n]) for n in range(1, 5)])


def test_the_confidence_sequence_holds_the_shifts_that_no_bet_refutes():
    gaps = np.random.default_rng(8).normal(1.0, 1.0, 25)
    low, high = confidence_sequence(gaps, 0.05)
    step = 1e-3
    for bound, outside in ((low, -step), (high, step)):
        assert capital(gaps - bound - outside).max() >= 20
        assert capital(gaps - bound + outside).max() < 20
    assert low < gaps.mean() < high
    assert confidence_sequence(gaps[:3], 0.05) == (-math.inf, math.inf)


def test_where_no_bet_spares_the_mean_the_confidence_sequence_reaches_over_every_difference():
    drifting = np.array([1.0] * 8 + [-1.0] * 8)
    assert capital(drifting).max() >= 20
    low, high = confidence_sequence(drifting, 0.05)
    assert low <= -1.0
    assert high >= 1.0


def test_the_confidence_sequence_moves_with_its_values():
    gaps = np.random.default_rng(9).normal(0.3, 1.0, 20)
    low, high = confidence_sequence(gaps, 0.05)
    assert confidence_sequence(3 * gaps + 2, 0.05) == pytest.approx((3 * low + 2, 3 * high + 2), abs=1e-4)


def test_equivalence_at_any_time_is_the_larger_of_two_bets():
    gaps = np.random.default_rng(4).normal(0.0, 0.2, 15)
    found = any_time_equivalence_p(gaps, 1.0)
    assert found[-1] < 0.05
    assert found == pytest.approx(np.maximum(any_time_p(1.0 - gaps, 1), any_time_p(1.0 + gaps, 1)))
    assert min(any_time_equivalence_p(gaps + 1.0, 1.0)) > 0.05


# AdaStop (Mathieu et al. 2023): checks after equal numbers of runs, a permutation test that is not studentised


def adastop(one, two, each: int, checks: int) -> str:
    """What AdaStop decides at its last check: equal, larger or smaller."""
    from adastop import MultipleAgentsComparator

    compared = MultipleAgentsComparator(n=each, K=checks, B=1_000, alpha=0.05, seed=0)
    for check in range(1, checks + 1):
        compared.partial_compare({"one": one[: each * check], "two": two[: each * check]}, verbose=False)
        if compared.is_finished:
            break
    (decision,) = compared.decisions.values()
    return str(decision)


@pytest.mark.filterwarnings("ignore")
def test_adastop_decides_the_same_where_arms_are_alike_or_far_apart():
    """It spends its error in equal parts, so do these looks; between alike and far apart the two may differ."""
    sizes, parts, found = [(5 * k, 5 * k) for k in range(1, 4)], np.full(3, 1 / 3), []
    for seed, apart in itertools.product(range(3), (0.0, -3.0, 3.0)):
        one, two = arms(seed, 15, apart)
        p = permutation_p_over(one, two, sizes, parts)
        ours = "equal" if p > 0.05 else "larger" if one.mean() > two.mean() else "smaller"
        found.append((apart, adastop(one, two, 5, 3), ours))
    assert [theirs for _, theirs, _ in found] == [ours for *_, ours in found]
    assert {ours for *_, ours in found} == {"equal", "larger", "smaller"}
