"""The rule from accuracies to verdicts: what each kind takes, what a family corrects, and what must not move it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from attnbench.analysis.plan import Plan
from attnbench.analysis.power import further_seeds
from attnbench.analysis.sample import Sample
from attnbench.analysis.stats import churn, correlation, difference, equivalence_p, estimate, holm, superiority
from attnbench.analysis.verdicts import Contrast, contrasts

PAIRINGS = pytest.mark.parametrize("pairing", ["independent", "paired"])
ONE = np.array([90.0, 90.4, 89.8, 90.2, 90.1, 90.3, 89.9, 90.1])
"""Eight seeds with little spread."""
WIDE = np.array([88.0, 92.5, 90.0, 85.0, 94.0, 91.5, 89.0, 90.5])
JITTER = np.array([0.0, 0.02, -0.01, 0.01, 0.03, -0.02, 0.01, 0.0])
accuracies = st.lists(st.integers(330, 360).map(lambda right: right / 3.6), min_size=6, max_size=6)
OTHERS = {"up": ONE + 0.6, "far": ONE + 3 + JITTER, "same": ONE[::-1], "wide": WIDE}


def arm(name: str, values, seeds=None) -> Sample:
    found = np.array(values, float)
    return Sample(name, tuple(seeds if seeds is not None else range(len(found))), found)


def against(one, two, plan: Plan = Plan()) -> Contrast:  # noqa: B008, a frozen value
    return contrasts([arm("one", one)], arm("two", two), plan)[0]


def answered(name: str, right: np.ndarray, seeds=None) -> Sample:
    """An arm that is right where it says so, and one class off elsewhere."""
    labels = np.arange(right.shape[1]) % 5
    said = np.where(right, labels, (labels + 1) % 5)
    return Sample(name, tuple(seeds or range(len(right))), 100 * right.mean(1), said, labels)


def numbers(found: Contrast) -> list[float]:
    return [found.verdict.p_value, found.verdict.equivalence_p, found.verdict.further or 0]


# The rule


@PAIRINGS
@pytest.mark.parametrize(
    ("one", "two", "margin", "kind", "within"),
    [
        (ONE + 3 + JITTER, ONE, 1.0, "better", False),
        (ONE - 3 + JITTER, ONE, 1.0, "worse", False),
        (ONE + 0.8 + JITTER, ONE, 2.0, "better", True),
        (ONE - 0.8 + JITTER, ONE, 2.0, "worse", True),
        (ONE[::-1], ONE, 1.0, "equivalent", True),
        (WIDE, ONE, 1.0, "undecided", False),
        (ONE, ONE, 0.5, "equivalent", True),
        ([90.0] * 8, [90.0] * 8, 0.1, "equivalent", True),
        ([95.0] * 8, [90.0] * 8, 1.0, "better", False),
        ([90.0] * 8, [90.5] * 8, 1.0, "worse", True),
    ],
)
def test_better_and_worse_come_before_equivalent_and_undecided_is_the_rest(pairing, one, two, margin, kind, within):
    verdict = against(one, two, Plan(margin=margin, pairing=pairing)).verdict
    assert (verdict.kind, verdict.within_margin, verdict.family, verdict.margin) == (kind, within, 1, margin)
    assert (verdict.further is not None) == (kind == "undecided")


def test_two_seeds_above_eight_are_not_better_where_they_lie_far_apart():
    """Of the regroupings of 2 + 8 one in 45 lies as far out, but two such seeds leave one degree of freedom."""
    found = against([95.0, 99.0], ONE)
    assert found.verdict.p_value > 1 / 45
    assert found.difference.low < 0 < found.difference.high
    assert found.verdict.kind == "undecided"


def test_a_small_p_alone_is_not_better_where_the_interval_holds_zero():
    """All eight pairs go one way, by very different amounts: of the flips of their signs two in 256 lie as far out."""
    found = against(ONE + np.array([0.1] * 7 + [9.0]), ONE, Plan(pairing="paired"))
    assert found.verdict.p_value == pytest.approx(2 / 256)
    assert found.difference.low < 0 < found.difference.high
    assert found.verdict.kind == "undecided"


@pytest.mark.parametrize(("n", "pairing", "further"), [(3, "independent", 2), (5, "paired", 1)])
def test_an_interval_without_zero_alone_is_not_better_where_p_cannot_be_small(n, pairing, further):
    found = against(ONE[:n] + 3 + JITTER[:n], ONE[:n], Plan(pairing=pairing))
    assert found.difference.low > 0
    assert found.verdict.p_value > 0.05
    assert (found.verdict.kind, found.verdict.further) == ("undecided", further)


def test_an_arm_with_few_seeds_is_not_called_equivalent_however_many_the_others_have():
    """Where it is told of three arms of three seeds, it could not have been called better either."""
    many, few = np.array([90.0, 90.1, 90.2, 90.1, 90.0]), np.array([90.0, 90.2, 90.1])
    found = contrasts([arm(name, few) for name in "abc"], arm("none", many), Plan())
    assert {each.verdict.kind for each in found} == {"undecided"}
    assert {each.verdict.needed for each in found} == {4}
    far = contrasts([arm(name, few + 10) for name in "abc"], arm("none", many), Plan())
    assert {each.verdict.kind for each in far} == {"undecided"}


def test_without_spread_a_small_arm_is_undecided_until_it_can_decide():
    assert against([95.0] * 3, [90.0] * 3).verdict.further == 1
    assert against([95.0] * 4, [90.0] * 4).verdict.kind == "better"


@PAIRINGS
@pytest.mark.parametrize(("one", "two"), [([95.0], [90.0]), ([95.0], ONE), (ONE, [90.0])])
def test_one_seed_is_undecided_and_knows_no_number_of_further_seeds(pairing, one, two):
    found = against(one, two, Plan(pairing=pairing))
    assert (found.verdict.kind, found.verdict.further, found.new_images) == ("undecided", None, None)
    assert math.isnan(found.verdict.p_value)
    assert math.isnan(found.verdict.equivalence_p)
    assert not found.verdict.within_margin


@pytest.mark.parametrize("shift", [-0.7, 0.0, 0.4, 1.1])
def test_further_seeds_follow_from_the_spread_and_not_from_the_difference(shift):
    one, two = WIDE + shift, WIDE[::-1] + 0.3 * ONE
    two = two - two.mean() + WIDE.mean()
    found = against(one, two).verdict
    spread = math.sqrt((one.var(ddof=1) + two.var(ddof=1)) / 2)
    shares = np.array([one.var(ddof=1), two.var(ddof=1)])
    freedom = 7 * shares.sum() ** 2 / (shares**2).sum()
    assert found.kind == "undecided"
    assert found.further == further_seeds(spread, freedom, 8, 1.0)
    pairs = against(one, two, Plan(pairing="paired")).verdict
    assert pairs.further == further_seeds(float((one - two).std(ddof=1)), 7, 8, 1.0, pairing="paired")


# Families


@PAIRINGS
def test_a_family_is_corrected_by_holm_once_for_each_kind_of_test(pairing):
    found = contrasts([arm(*item) for item in OTHERS.items()], arm("none", ONE), Plan(pairing=pairing))
    apart = [difference(values, ONE, pairing) for values in OTHERS.values()]
    same = [equivalence_p(values, ONE, 1.0, pairing) for values in OTHERS.values()]
    assert [(each.arm, each.other, each.verdict.family) for each in found] == [(name, "none", 4) for name in OTHERS]
    assert [each.difference for each in found] == apart
    assert [each.verdict.p_value for each in found] == pytest.approx(holm([gap.p_value for gap in apart]))
    assert [each.verdict.equivalence_p for each in found] == pytest.approx(holm(same))


@pytest.mark.parametrize(("arms", "kind"), [(1, "better"), (2, "undecided")])
def test_what_is_better_alone_may_be_undecided_in_a_family(arms, kind):
    """4 + 4 reach 2/70; two such arms 4/70."""
    others = [arm(f"a{place}", ONE[:4] + 3) for place in range(arms)]
    assert {each.verdict.kind for each in contrasts(others, arm("none", ONE[:4]), Plan())} == {kind}


def test_what_is_equivalent_alone_may_be_undecided_in_a_family():
    two = ONE + 0.05
    margin = 0.05 + 2 * math.sqrt(ONE.var(ddof=1) / 4)  # p of t = 2 with 14 degrees of freedom: 0.033
    found = [contrasts([arm("a", two)] * count, arm("none", ONE), Plan(margin=margin))[0] for count in (1, 2)]
    assert [each.verdict.equivalence_p for each in found] == pytest.approx([0.0326, 0.0653], abs=1e-4)
    assert [each.verdict.kind for each in found] == ["equivalent", "undecided"]


def test_an_arm_with_one_seed_counts_in_the_family():
    lone, far = contrasts([arm("lone", [95.0]), arm("far", ONE + 3)], arm("none", ONE), Plan())
    assert (lone.verdict.family, lone.verdict.kind, far.verdict.kind) == (2, "undecided", "better")
    assert far.verdict.p_value == pytest.approx(2 * far.difference.p_value)


# Which seeds

LATER = np.array([91.0, 89.0, 90.5, 92.0, 88.5, 90.0, 91.5])


@PAIRINGS
def test_pairs_are_the_seeds_that_both_have_and_independent_arms_all_of_theirs(pairing):
    one, two = arm("one", ONE, range(8)), arm("two", LATER, [9, 7, 3, 4, 12, 1, 6])
    (found,) = contrasts([one], two, Plan(pairing=pairing))
    pairs = [(ONE[seed], LATER[place]) for seed in range(8) for place, other in enumerate(two.seeds) if seed == other]
    shared = np.array(pairs).T
    analysed = shared if pairing == "paired" else (ONE, LATER)
    assert found.difference == difference(*analysed, pairing)
    assert found.superiority == superiority([tuple(analysed)])
    assert found.correlation == correlation(*shared)
    assert (found.difference.n, found.correlation.n, found.pairing) == (5 if pairing == "paired" else 8, 5, pairing)


def test_arms_without_a_common_seed_have_no_pairs_and_no_numbers(recwarn):
    (found,) = contrasts([arm("one", ONE[:4], range(4))], arm("two", ONE[4:], range(4, 8)), Plan(pairing="paired"))
    assert (found.verdict.kind, found.verdict.further, found.difference.n, found.churn) == ("undecided", None, 0, None)
    assert all(map(math.isnan, (found.difference.mean, found.superiority.mean, found.superiority.low)))
    assert not [str(each.message) for each in recwarn.list]


# New images


def studied(shared: float, seeds: float, images: float) -> tuple[np.ndarray, np.ndarray]:
    """What two arms of six seeds are right about: how far their seeds go together, and the spread of their effects."""
    rng = np.random.default_rng(0)
    common, level = rng.standard_normal((6, 1)), rng.standard_normal(240)
    right = []
    for _ in range(2):
        ability = seeds * (math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.standard_normal((6, 1)))
        right.append(ability + level + images * rng.standard_normal(240) + 0.3 * rng.standard_normal((6, 240)) > -1)
    return right[0], right[1]


def on_new_images(rights: tuple[np.ndarray, np.ndarray], pairing: str) -> Contrast:
    """The second of the arms against the first."""
    first, second = (answered(name, right) for name, right in zip("ab", rights, strict=True))
    return contrasts([second], first, Plan(pairing=pairing))[0]


def parts(right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    seeds, images = right.mean(1, keepdims=True), right.mean(0, keepdims=True)
    return seeds, images, right - seeds - images + right.mean()


@PAIRINGS
def test_the_interval_for_new_images_is_of_seeds_and_images_drawn_as_the_plan_says(pairing):
    """Images are common to both arms; seeds only where they are pairs."""
    rights = studied(shared=0.8, seeds=0.1, images=0.8)
    found = on_new_images(rights, pairing)
    two, one = (100.0 * right for right in rights)
    together = parts(one - two)
    drawn = [together] if pairing == "paired" else [parts(one), parts(two)]
    variance = together[1].var() / 240 + sum(each[0].var() / 6 + each[2].var() / 1440 for each in drawn)
    error = math.sqrt(sum(each[0].var(ddof=1) / 6 for each in drawn))
    shares = np.array([each[0].var(ddof=1) for each in drawn])
    freedom = 5 * shares.sum() ** 2 / (shares**2).sum()
    variance += error**2 / 6
    half = oracle.t.ppf(0.975, variance**2 * freedom / error**4) * math.sqrt(variance)
    new = found.new_images
    assert (new.mean, new.n) == (pytest.approx(found.difference.mean), 6)
    assert new.high - new.mean == pytest.approx(new.mean - new.low) == pytest.approx(half)
    seeds_alone = oracle.t.ppf(0.975, freedom) * error
    assert found.difference.high - found.difference.mean == pytest.approx(seeds_alone)
    assert seeds_alone < 0.8 * half


def test_pairs_cancel_what_their_seeds_share():
    found = [
        on_new_images(studied(shared=1.0, seeds=0.5, images=0.0), pairing).new_images
        for pairing in ("paired", "independent")
    ]
    paired, independent = (new.high - new.low for new in found)
    assert paired < 0.5 * independent


def test_churn_is_over_the_seeds_that_both_have():
    one, two = studied(shared=0.5, seeds=0.5, images=0.3)
    samples = answered("one", one, [0, 1, 2, 3, 4, 5]), answered("two", two, [4, 5, 0, 8, 9, 10])
    (found,) = contrasts([samples[0]], samples[1], Plan())
    assert found.churn == churn(samples[0].predicted[[0, 4, 5]], samples[1].predicted[[2, 0, 1]])
    assert found.churn == estimate(100 * (one[[0, 4, 5]] != two[[2, 0, 1]]).mean(1))


def test_without_predictions_only_this_test_set_is_spoken_of():
    right = studied(shared=0.5, seeds=0.5, images=0.3)[0]
    (found,) = contrasts([answered("one", right)], arm("two", 100 * right.mean(1)), Plan())
    assert (found.new_images, found.churn) == (None, None)
    assert found.difference.mean == 0


# What must not move a verdict

OPPOSITE = {"better": "worse", "worse": "better", "equivalent": "equivalent", "undecided": "undecided"}


@PAIRINGS
@given(one=accuracies, two=accuracies)
@settings(deadline=None, max_examples=15)
def test_arms_changed_about_turn_better_into_worse_and_change_nothing_else(pairing, one, two):
    plan = Plan(margin=1.513, pairing=pairing)
    there, back = against(one, two, plan), against(two, one, plan)
    assert back.verdict.kind == OPPOSITE[there.verdict.kind]
    assert numbers(back) == pytest.approx(numbers(there), abs=1e-9)


@PAIRINGS
@given(one=accuracies, two=accuracies, scale=st.sampled_from([0.01, 3.0]), shift=st.floats(-20, 20))
@settings(deadline=None, max_examples=15)
def test_unit_and_origin_do_not_matter(pairing, one, two, scale, shift):
    found = against(one, two, Plan(margin=1.513, pairing=pairing))
    plan = Plan(margin=1.513 * scale, pairing=pairing)
    moved = against(scale * np.array(one) + shift, scale * np.array(two) + shift, plan)
    assert moved.verdict.kind == found.verdict.kind
    assert numbers(moved) == pytest.approx(numbers(found), abs=1e-6)


@PAIRINGS
@given(order=st.permutations(range(8)))
@settings(deadline=None, max_examples=10)
def test_the_order_of_seeds_and_of_arms_does_not_matter(pairing, order):
    """Pairs are told by their seeds, not by their places."""
    samples = [arm(name, values) for name, values in OTHERS.items()]
    found = contrasts(samples, arm("none", ONE), Plan(pairing=pairing))
    mixed = contrasts([sample.at(order) for sample in samples[::-1]], arm("none", ONE), Plan(pairing=pairing))[::-1]
    assert [each.verdict.kind for each in mixed] == [each.verdict.kind for each in found]
    assert [numbers(each) for each in mixed] == [pytest.approx(numbers(each), abs=1e-9) for each in found]
