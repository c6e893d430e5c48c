"""From records to verdicts: what is pooled, what is warned of, and that a sentence says what scipy computes."""

import dataclasses
import math
import shutil
from pathlib import Path

import made
import numpy as np
import pytest
from byhand import FIRST, between, exact_p, holm, new_images, same_p
from handmade import ACCURACY, PLAN, record, records, stored
from scipy import stats as oracle

from attnbench import RunSpec, Store, Study, compare
from attnbench.analysis.cells import Cell
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.plan import Plan
from attnbench.report import markdown
from attnbench.report.sentences import sentence
from attnbench.report.tables import verdicts

NONE = np.array([90.0, 90.5, 91.0, 90.25, 90.75, 90.5, 91.25, 90.0])
JITTER = np.array([0.25, -0.25, 0, 0.25, -0.25, 0, 0, 0])
ACCURACIES = {
    "none": NONE,
    "se": NONE + 3 + JITTER,
    "constant": NONE - 3 + JITTER,
    "random": NONE + 1 - JITTER,
    "static": NONE + JITTER,
    "cbam": np.array([88.0, 92.5, 90.0, 85.0, 94.0, 91.5, 89.0, 90.5]),
}
"""Accuracy of each seed, whole images of 400: an arm for every kind of verdict."""
ANSWERS = {
    "se": "se is better than none",
    "constant": "constant is worse than none",
    "random": "random is better than none, but within the margin of 2 points",
    "static": "static and none are equivalent within 2 points",
    "cbam": "cbam against none is undecided",
}
TESTS = {
    "independent": (
        ", the larger one of the studentised permutation test (all 6,435 regroupings) and Welch's",
        "8 + 8 seeds",
    ),
    "paired": (" of the sign-flip test (all 256 flips)", "8 pairs"),
}
BASE = {"dataset": "digits", "backbone": "resnet20", "epochs": 3}
STUDY = {"base": BASE, "grid": {"attention": [*ACCURACIES]}, "seeds": 8, "margin": 2.0}
PAIRINGS = pytest.mark.parametrize("pairing", [*TESTS])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Every run of the study, with its predictions."""
    folder = tmp_path_factory.mktemp("compare") / "runs"
    for spec in Study(name="all", **STUDY).runs():
        made.run(folder, spec, ACCURACIES[spec.attention][spec.seed], images=400)
    return folder


@pytest.fixture
def pairing() -> str:
    return "independent"


@pytest.fixture
def cell(store: Path, pairing: str) -> Cell:
    """The study's only cell, analysed as the test asks."""
    return compare(Study(name="all", **STUDY, pairing=pairing), Store(store)).cells[0]


def arms(comparison: Comparison) -> list[list[tuple[str, int]]]:
    """For each cell the arms and how many runs each has."""
    return [[(arm.name, arm.score.n) for arm in cell.arms] for cell in comparison.cells]


# What is pooled


def test_runs_that_differ_in_mechanism_and_seed_are_one_cell_with_the_baseline_first():
    found = compare(records())
    assert arms(found) == [[("none", 5), ("cbam", 5), ("se", 5)]]
    assert [arm.difference is None for arm in found.cells[0].arms] == [True, False, False]
    assert not found.warnings


def test_an_arm_holds_its_scores_in_the_order_of_the_seeds():
    assert compare(reversed(records())).cells[0].arm("SE()").values == ACCURACY["se"]


OTHER = [{"epochs": 4}, {"lr": 0.5}, {"backbone": "resnet20"}, {"test_limit": 9}, {"tta": "flip"}, {"progressive": 0.5}]


@pytest.mark.parametrize("given", OTHER, ids=str)
@pytest.mark.parametrize("other", [1, 0])
def test_runs_of_another_recipe_are_another_cell_that_says_how_it_differs(given, other):
    parts = [records(), records(given=given)]
    found = compare([record for part in (parts if other else parts[::-1]) for record in part])
    assert arms(found) == [[("none", 5), ("cbam", 5), ("se", 5)]] * 2
    assert str(*given.values()) in found.cells[other].name
    assert found.cells[0].name != found.cells[1].name


@pytest.mark.parametrize("given", [{"site": "stage"}, {"stages": (1, 2)}], ids=str)
def test_a_mechanism_in_another_place_is_another_arm_of_the_same_cell(given):
    found = compare(records("none", "se") + records("se", given=given))
    assert [n for _, n in arms(found)[0]] == [5, 5, 5]


@pytest.mark.parametrize("which", ["data_fingerprint", "split_fingerprint"])
def test_records_of_other_data_or_another_split_are_never_pooled(which):
    found = compare(records() + records(**{which: "other"}))
    assert arms(found) == [[("none", 5), ("cbam", 5), ("se", 5)]] * 2
    assert len({cell.name for cell in found.cells}) == 2, "nothing tells the two tables apart"


OTHER = [
    ({"numerics": {"device": "cpu", "threads": 2}}, "2 different numerics are pooled (threads)"),
    ({"environment": {"code": "two"}}, "2 different versions of the numerical code are pooled"),
]


@pytest.mark.parametrize(("changed", "said"), OTHER, ids=["numerics", "code"])
def test_records_of_other_numerics_or_code_are_pooled_with_a_warning(changed, said):
    found = compare([*records("none"), *records("se", **changed)])
    assert arms(found) == [[("none", 5), ("se", 5)]]
    assert [said in warning for warning in found.warnings] == [True]
    assert said in markdown(found)


@pytest.mark.parametrize("version", [2, "0123456789abcdef"], ids=["card", "source"])
def test_two_versions_of_a_mechanism_are_not_pooled_in_silence(version):
    """They are other runs with other numbers, which only happen to have one name."""
    newer = []
    for old in records("se"):
        form = {**old.canonical, "versions": {**old.canonical["versions"], "attention": version}}
        newer.append(dataclasses.replace(old, id=f"newer{old.id}", canonical=form))
    found = compare([*records("none", "se"), *newer])
    assert found.warnings or len(found.cells[0].arms) == 3


def test_a_study_counts_its_own_results_and_says_how_many_are_missing():
    """A run that failed is a result; one that was never begun is missing."""
    Path("plan.yaml").write_text(PLAN)
    others = records(given={"epochs": 9})
    failed = dataclasses.replace(records("cbam")[0], status="failed")
    found = compare(Study.load("plan.yaml"), stored([*records("none", "se")[:-1], failed, *others]))
    assert arms(found) == [[("none", 5), ("se", 4), ("cbam", 1)]]
    assert found.missing == 5
    assert "**5 runs of this study are not done yet.**" in markdown(found)


def test_a_studys_baseline_is_what_the_others_are_compared_with():
    fields = {"base": {"dataset": "digits", "epochs": 3}, "grid": {"attention": ["none", "se"]}, "seeds": 5}
    study = Study(name="s", baseline="SE", **fields)
    first, second = compare(study, stored(records("none", "se"))).cells[0].arms
    assert (first.name, second.name, first.difference) == ("se", "none", None)
    assert second.difference.mean == pytest.approx(-2.0)


def test_records_have_their_baseline_under_any_spelling():
    found = compare(records("none", "se"), plan=Plan("SE(reduction=16)"))
    assert [(arm.name, arm.contrast is None) for arm in found.cells[0].arms] == [("se", True), ("none", False)]


def test_a_failed_run_counts_as_declared_and_is_named_with_its_reason_and_its_cell():
    failed = [record("se", 3, 0, {"epochs": n}, status="failed", test={}, error="loss is nan") for n in (3, 4)]
    found = compare([*records("none"), *records("none", given={"epochs": 4}), *failed])
    assert arms(found) == [[("none", 5), ("se", 1)]] * 2
    assert ["se seed 3 failed: loss is nan" in warning for warning in found.warnings] == [True, True]
    assert len({*found.warnings}) == 2, "nothing tells in which of the two cells the run is missing"


@pytest.mark.parametrize(
    ("values", "pairing", "negative", "warned"),
    [
        (182 - NONE + JITTER / 5, "independent", True, True),
        (182 - NONE + JITTER / 5, "paired", True, False),
        (182 - np.roll(NONE, 4), "independent", False, False),
        (NONE + JITTER, "independent", False, False),
    ],
    ids=["negative", "paired", "perhaps", "positive"],
)
def test_a_credibly_negative_correlation_is_warned_of_where_arms_are_independent(values, pairing, negative, warned):
    r = oracle.pearsonr(values, NONE)
    assert (r.confidence_interval().high < 0) == negative
    runs = [record(arm, seed, one[seed]) for arm, one in (("none", NONE), ("se", values)) for seed in range(8)]
    warnings = compare(runs, plan=Plan(pairing=pairing)).warnings
    assert len(warnings) == warned
    for said in warnings:
        assert f"se and none are negatively correlated over seeds (r {r.statistic:+.2f})" in said


# Verdicts in words


def measured(one: np.ndarray, two: np.ndarray, pairing: str) -> tuple[float, float, float, float, float]:
    """Difference, its interval, p, and the p of equivalence within two points."""
    return *between(one, two, pairing, FIRST), exact_p(one, two, pairing), same_p(one, two, 2, pairing)


def rounded(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


@PAIRINGS
def test_a_sentence_says_verdict_regime_numbers_tests_and_family(cell, pairing):
    numbers = {arm: measured(ACCURACIES[arm], ACCURACIES["none"], pairing) for arm in ANSWERS}
    adjusted = [holm([found[place] for found in numbers.values()], FIRST) for place in (3, 4)]
    for arm, p, equal in zip(ANSWERS, *adjusted, strict=True):
        gap, low, high, *_ = numbers[arm]
        test, n = TESTS[pairing]
        tests = f"p {rounded(p)}{test}"
        tests += f", equivalence p {rounded(equal)} of two one-sided t tests" * (arm not in ("se", "constant"))
        alone = "95 % interval of this comparison alone"
        evidence = f"{gap:+.2f} points, {alone} [{low:+.2f}, {high:+.2f}], n = {n}"
        family = "Holm's correction over 5 comparisons with none; first look, for 4 of the 5 %"
        more = cell.arm(arm).contrast.verdict.further
        end = (
            f"; about {more} more seeds an arm decide with 80 % probability, at one more look."
            if arm == "cbam"
            else "."
        )
        answer, comma, rest = ANSWERS[arm].partition(",")
        answer = f"{answer} on these 400 test images{comma}{rest}"
        expected = f"{cell.name} (recipe classic, 3 epochs): {answer} ({evidence}; {tests}, {family}){end}"
        assert sentence(cell.arm(arm).contrast, cell) == expected
        assert expected.isascii()


APART = "; the interval excludes 0, and p, which a verdict takes too, is not below 0.05"
OPEN: list[tuple[list[int], float, str, str]] = [
    ([90], 1, "independent", "; 1 seed an arm cannot decide: run at least 4."),
    ([90], 1, "paired", "; 1 seed an arm cannot decide: run at least 6."),
    ([90] * 3, 1, "independent", f"{APART}; 3 seeds an arm cannot decide: run at least 4."),
    (
        [99, 100, 99, 100],
        1.5,
        "independent",
        "; about 17 more seeds an arm decide with 80 % probability, at one more look.",
    ),
    ([95, 105] * 3, 0.01, "paired", "; even 1,000 seeds an arm would not decide with 80 % probability."),
]


@pytest.mark.parametrize(("values", "margin", "pairing", "outlook"), OPEN)
def test_an_undecided_sentence_ends_with_what_could_decide(values, margin, pairing, outlook):
    gains = {"none": values, "se": [2 * value - 100 for value in values]}
    runs = [record(arm, seed, value, recipe="") for arm in gains for seed, value in enumerate(gains[arm])]
    (said,) = verdicts(compare(runs, plan=Plan(margin=margin, pairing=pairing)))
    assert " (recipe as given, 3 epochs): se against none is undecided on these 360 test images (" in said
    assert said.endswith(f", the only comparison with none; first look, for 4 of the 5 %){outlook}")


@pytest.mark.parametrize(("margin", "said"), [(1.0, "within 1 point "), (0.75, "within 0.75 points ")])
def test_a_sentence_names_the_margin(margin, said):
    found = compare([record(arm, seed, 90.0) for arm in ("none", "se") for seed in range(4)], plan=Plan(margin=margin))
    assert f"se and none are equivalent {said}" in verdicts(found)[0]


@pytest.mark.parametrize("arm", ANSWERS)
def test_a_pair_of_the_plan_has_one_answer_whichever_is_named_first(cell, arm):
    there, back = (cell.between(cell.arm(one), cell.arm(two)) for one, two in ((arm, "none"), ("none", arm)))
    assert back.difference.mean == pytest.approx(-there.difference.mean)
    assert back.verdict.kind == {"better": "worse", "worse": "better"}.get(there.verdict.kind, there.verdict.kind)
    assert (back.verdict.p_value, back.verdict.family) == (there.verdict.p_value, there.verdict.family)
    assert "comparisons with none" in sentence(back, cell)


def over_all_pairs(one: np.ndarray, two: np.ndarray, pairing: str) -> tuple[float, float, float, float, float]:
    """What `measured` says of two, where any of the 15 pairs of six arms may have been picked: at a first look.

    Independent: Games and Howell's test, for which no arm's variance is less than the median arm's.
    """
    gap, low, high, p, equal = measured(one, two, pairing)
    if pairing == "paired":
        return *between(one, two, pairing, FIRST / 15), min(1.0, 15 * p / FIRST), min(1.0, 15 * equal / FIRST)
    middle = np.median([values.var(ddof=1) for values in ACCURACIES.values()])
    shares = [max(values.var(ddof=1), middle) / 8 for values in (one, two)]
    known = 7 * sum(shares) ** 2 / sum(share**2 for share in shares)
    size, law = math.sqrt(sum(shares) / 2), oracle.studentized_range(6, known)
    half = law.ppf(1 - 0.05 * FIRST) * size
    p = min(1.0, max(p, float(law.sf(abs(gap) / size))) / FIRST)
    return gap, min(low, gap - half), max(high, gap + half), p, min(1.0, 15 * equal / FIRST)


@PAIRINGS
@pytest.mark.parametrize(("one", "two"), [("se", "cbam"), ("static", "random"), ("cbam", "static")])
def test_arms_that_the_plan_does_not_compare_are_one_of_all_possible_pairs(cell, pairing, one, two):
    found = cell.between(cell.arm(one), cell.arm(two))
    gap, low, high, p, equal = over_all_pairs(ACCURACIES[one], ACCURACIES[two], pairing)
    assert (found.arm, found.other, found.verdict.family) == (one, two, 15)
    assert [found.difference.mean, found.difference.low, found.difference.high] == pytest.approx([gap, low, high])
    assert [found.verdict.p_value, found.verdict.equivalence_p] == pytest.approx([p, equal])
    said = sentence(found, cell).partition(", n = ")[2].partition(")")[0]
    tests = {
        "independent": ", the larger one of Games and Howell's test and the permutation test of the two",
        "paired": " of the sign-flip test with Bonferroni's correction",
    }
    assert f"; p {rounded(p)}{tests[pairing]}, " in said
    family = "one of 15 possible pairs, over all of which p and interval hold"
    assert said.endswith(f"{family}; first look, for 4 of the 5 %")


def test_pairs_are_the_seeds_that_both_have(store):
    runs = [one for one in Store(store).records() if (one.spec["attention"], one.spec["seed"]) != ("none", 2)]
    others = np.delete(ACCURACIES["se"], 2), np.delete(ACCURACIES["none"], 2)
    for pairing, one, said in (("paired", others[0], "7 pairs"), ("independent", ACCURACIES["se"], "8 + 7 seeds")):
        found = compare(runs, plan=Plan(pairing=pairing)).cells[0].arm("se").contrast
        gap, low, high, *_ = measured(one, others[1], pairing)
        assert [found.difference.mean, found.difference.low, found.difference.high] == pytest.approx([gap, low, high])
        assert f"n = {said};" in sentence(found, compare(runs).cells[0])


# New images


@PAIRINGS
def test_every_arm_and_difference_has_an_interval_for_new_images_from_the_runs_files(store, cell, pairing):
    (by_name,) = made.read(store)
    for arm in cell.arms:
        pairs = [(arm.new_images, new_images(by_name[arm.name]))]
        if arm.contrast:
            pairs.append((arm.contrast.new_images, new_images(by_name[arm.name], by_name["none"], pairing)))
        for found, expected in pairs:
            assert (found.mean, found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_seeds_that_go_together_are_not_drawn_together_unless_they_are_pairs():
    for arm, gain in (("none", 0), ("se", 1 + JITTER)):
        for seed, value in enumerate(ACCURACIES["cbam"] + gain):
            made.run(Path("runs"), RunSpec(**BASE, attention=arm, seed=seed), value, images=2000)
    (by_name,) = made.read(Path("runs"))
    for pairing in TESTS:
        found = compare(Store("runs").records(), plan=Plan(pairing=pairing)).cells[0].arm("se").contrast.new_images
        expected = new_images(by_name["se"], by_name["none"], pairing)
        assert (found.mean, found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_there_is_an_interval_for_new_images_only_where_every_run_has_predictions(store, tmp_path):
    shutil.copytree(store, tmp_path / "some")
    (tmp_path / "some" / RunSpec(**BASE, attention="se", seed=3).id / "predictions.npz").unlink()
    found = compare(Study(name="all", **STUDY), Store(tmp_path / "some"))
    assert {arm.name for arm in found.cells[0].arms if arm.new_images is None} == {"se"}
    assert {arm.name for arm in found.cells[0].arms if arm.contrast and not arm.contrast.new_images} == {"se"}
    rows = [line.split(" | ") for line in markdown(found).splitlines() if line.startswith("| se | 8 |")]
    assert [[row[place] for place in (4, 7)] for row in rows] == [["-", "-"]]


# Training that was not at its end


def curved(arm: str, seed: int, last: float, **more: float):
    """A run whose training accuracy rises by so much in its last epoch."""
    points = [{"epoch": 1, "train_accuracy": 80.0, **more}, {"epoch": 2, "train_accuracy": 80.0 + last, **more}]
    return dataclasses.replace(record(arm, seed, 90.0 + seed), curves=points)


@pytest.mark.parametrize(("last", "margin", "warned"), [(2.0, 1.0, True), (2.0, 3.0, False), (0.5, 1.0, False)])
def test_curves_that_rise_by_more_than_the_margin_in_the_last_epoch_are_warned_of(last, margin, warned):
    runs = [curved(arm, seed, gain) for arm, gain in (("none", 0.0), ("se", last)) for seed in range(4)]
    said = [text for text in compare(runs, plan=Plan(margin=margin)).warnings if "still rise" in text]
    assert len(said) == warned
    for text in said:
        assert "1 of 2 arms; the training accuracy of se by 2 points in the last epoch" in text


def test_validation_says_it_rather_than_training_where_it_was_measured():
    runs = [curved(arm, seed, 5.0, val_accuracy=70.0) for arm in ("none", "se") for seed in range(4)]
    assert not [text for text in compare(runs).warnings if "still rise" in text]
