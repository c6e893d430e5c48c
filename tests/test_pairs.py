"""Two arms that were picked from many: p and interval over all pairs at once, against scipy and by simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as oracle

from attnbench.analysis.anytime import any_time_p, confidence_sequence
from attnbench.analysis.cells import cell_of
from attnbench.analysis.pairs import middle_unit, picked, simultaneous
from attnbench.analysis.plan import Plan
from attnbench.analysis.sample import Sample
from attnbench.analysis.sequential import Spending
from attnbench.analysis.stats import difference, equivalence_p
from attnbench.analysis.verdicts import Contrast
from attnbench.report.sentences import sentence

RNG = np.random.default_rng(5)
ARMS = [RNG.normal(90 + shift, 1, 6) for shift in (0, 0, 3, 0.5)]
SPREADS = [RNG.normal(90 + place, 0.5 + place, 6) for place in range(5)]


def games_howell(one, two, arms) -> tuple[float, float]:
    """p and half width by hand, with variances of at least the median arm's."""
    middle = np.median([np.var(arm, ddof=1) for arm in arms])
    shares = [max(np.var(arm, ddof=1), middle) / len(arm) for arm in (one, two)]
    freedom = sum(shares) ** 2 / sum(share**2 / (len(arm) - 1) for share, arm in zip(shares, (one, two), strict=True))
    error, k = math.sqrt(sum(shares) / 2), len(arms)
    p = oracle.studentized_range.sf(abs(np.mean(one) - np.mean(two)) / error, k, freedom)
    return float(p), float(oracle.studentized_range.ppf(0.95, k, freedom)) * error


@pytest.mark.parametrize("arms", [ARMS, SPREADS], ids=["equal", "unequal"])
def test_p_and_interval_are_games_and_howells_with_no_spread_below_the_middle_ones(arms):
    for one, two in itertools.permutations(arms[:4], 2):
        found, alone = simultaneous(one, two, arms), difference(one, two)
        p, half = games_howell(one, two, arms)
        assert found.p_value == pytest.approx(max(p, alone.p_value))
        assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
        assert (found.mean, found.n, found.n_baseline) == (alone.mean, alone.n, alone.n_baseline)


def test_arms_of_one_spread_have_the_numbers_of_tukeys_test_of_many():
    """Whose degrees of freedom are those of all arms: with many seeds that is no difference."""
    rng = np.random.default_rng(0)
    arms = [rng.permutation(np.linspace(-1, 1, 400)) + shift for shift in (0, 0.08, 0.14)]
    tukey = oracle.tukey_hsd(*arms)
    found = simultaneous(arms[2], arms[0], arms)
    assert found.p_value == pytest.approx(tukey.pvalue[2, 0], abs=2e-3)
    assert found.low == pytest.approx(tukey.confidence_interval().low[2, 0], abs=1e-3)


def test_pairs_of_seeds_have_bonferronis_correction_over_all_pairs_of_arms():
    found, alone = (how(ARMS[2], ARMS[0], *rest, "paired") for how, rest in ((simultaneous, [ARMS]), (difference, [])))
    gaps = ARMS[2] - ARMS[0]
    half = oracle.t.ppf(1 - 0.05 / 6 / 2, 5) * oracle.sem(gaps)
    assert found.p_value == pytest.approx(min(1, 6 * alone.p_value))
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))


def test_of_two_arms_there_is_one_pair_and_of_twenty_190():
    assert simultaneous(*ARMS[:2], ARMS[:2]) == difference(*ARMS[:2])
    cell = cell_of("many", {str(place): sample(str(place), ARMS[0] + place / 10) for place in range(20)}, Plan("0"))
    found = cell.between(cell.arm("19"), cell.arm("1"))
    assert (found.verdict.family, found.verdict.simultaneous) == (190, True)
    assert "one of 190 possible pairs, over all of which p and interval hold" in sentence(found, cell)
    assert not cell.between(cell.arm("19"), cell.arm("0")).verdict.simultaneous


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
    assert middle_unit([np.array([1.0])], 0.3) == 0.3
    assert not recwarn.list


def test_an_arm_that_is_all_over_the_place_does_not_hide_the_others():
    """Where the spread of all arms together is taken, as by Tukey, nothing is found beside it."""
    rng = np.random.default_rng(1)
    arms = [*(rng.normal(level, 0.5, 6) for level in (90, 90, 94)), rng.normal(90, 25, 6)]
    assert simultaneous(arms[2], arms[0], arms).p_value < 0.01
    assert oracle.tukey_hsd(*arms).pvalue[2, 0] > 0.5


@pytest.mark.parametrize(("arms", "seeds"), [(3, 4), pytest.param(30, 5, marks=pytest.mark.slow)])
def test_the_best_of_equal_arms_is_better_than_the_worst_in_at_most_5_percent_of_studies(arms, seeds):
    """Where "a single comparison" finds it better in up to 89 %; one arm may have four times the spread."""
    rng, studies, false = np.random.default_rng(arms + seeds), 100, 0
    for spread in (np.ones((arms, 1)), np.r_[4.0, np.ones(arms - 1)][:, None]):
        for _ in range(studies):
            drawn = spread * rng.standard_normal((arms, seeds))
            means = drawn.mean(1)
            best, worst = drawn[means.argmax()], drawn[means.argmin()]
            if difference(best, worst).p_value < 0.05:  # else the other cannot be
                false += simultaneous(best, worst, list(drawn)).p_value < 0.05
    assert false / studies / 2 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / studies / 2)


# As verdicts


def sample(name: str, values) -> Sample:
    return Sample(name, tuple(range(len(values))), np.asarray(values, float))


TWO = Plan(margin=2.0)


def chosen(plan: Plan = TWO, spending: Spending | None = None) -> Contrast:
    samples = [sample(name, values) for name, values in zip("abcd", ARMS, strict=True)]
    return picked(samples[2], samples[0], samples, plan, spending)


@pytest.mark.parametrize("pairing", ["independent", "paired"])
def test_a_verdict_on_two_that_were_picked_is_that_of_the_numbers_over_all_pairs(pairing):
    found = chosen(Plan(margin=2.0, pairing=pairing))
    assert found.difference == simultaneous(ARMS[2], ARMS[0], ARMS, pairing)
    assert found.verdict.p_value == found.difference.p_value
    assert found.verdict.equivalence_p == min(1, 6 * equivalence_p(ARMS[2], ARMS[0], 2.0, pairing))
    better = found.verdict.p_value < 0.05
    assert found.verdict.kind == ("better" if better else "undecided")
    assert better == (pairing == "independent"), "six pairs of seeds reach 0.19 over six pairs of arms"


def test_a_look_that_may_spend_half_the_error_asks_for_half_the_p():
    whole, half = chosen(), chosen(spending=Spending((4, 6), (0.5, 1.0)))
    assert half.verdict.p_value == pytest.approx(2 * simultaneous(ARMS[2], ARMS[0], ARMS).p_value)
    assert half.difference == simultaneous(ARMS[2], ARMS[0], ARMS, level=0.025)
    assert half.difference.low < whole.difference.low
    assert half.verdict.equivalence_p == min(1, 2 * whole.verdict.equivalence_p)


@pytest.mark.parametrize(("looks", "share"), [(None, 0.8), ([5, 6], 1 - 25 / 36), ([6], 1.0), ("any", 1.0)])
def test_a_cell_tells_pairs_what_its_last_look_may_spend(looks, share):
    """Six of six seeds: without planned looks some of the error is kept for seeds that are added later."""
    cell = cell_of("x", {name: sample(name, ARMS[place]) for place, name in enumerate("abcd")}, Plan("a", looks=looks))
    assert (cell.spending.parts[-1] if cell.spending else 1.0) == pytest.approx(share)
    if looks != "any":
        values = [arm.sample.values for arm in cell.arms]
        found = cell.between(cell.arm("d"), cell.arm("b")).difference
        assert found == simultaneous(ARMS[3], ARMS[1], values, level=0.05 * share)


def test_where_every_run_is_a_look_pairs_have_bonferronis_correction_of_the_bet():
    found, gaps = chosen(Plan(margin=2.0, looks="any")), ARMS[2] - ARMS[0]
    assert found.verdict.p_value == min(1, 6 * any_time_p(gaps)[-1])
    assert (found.difference.low, found.difference.high) == confidence_sequence(gaps, 0.05 / 6)
    cell = cell_of("", {"a": sample("a", ARMS[0]), "c": sample("c", ARMS[2])}, Plan("a", looks="any"))
    assert "of bets on the signs of differences at equal seeds with Bonferroni's correction" in sentence(found, cell)


def test_of_two_arms_without_their_baseline_nothing_is_picked():
    one, two = sample("a", ARMS[2]), sample("b", ARMS[0])
    found = picked(one, two, [one, two], Plan(margin=2.0))
    assert (found.verdict.family, found.verdict.simultaneous, found.difference) == (1, False, difference(*ARMS[2::-2]))


def test_too_few_seeds_for_any_regrouping_are_told_as_for_the_two_alone():
    few = [sample(name, values[:3] + shift) for name, values, shift in zip("abc", ARMS, (0, 0, 20), strict=False)]
    found = picked(few[2], few[0], few, Plan())
    assert (found.verdict.kind, found.verdict.needed) == ("undecided", 4)
