"""From records to verdicts: what is pooled, what is warned of, and that a sentence says what scipy computes."""

import dataclasses
import json
import math
import re
import sys
from pathlib import Path

import made
import numpy as np
import pytest
from handmade import ACCURACY, PLAN, record, records, stored
from scipy import stats as oracle
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from attnbench import Store, Study, compare
from attnbench.cli import main
from attnbench.comparison import Cell, Comparison
from attnbench.report import markdown
from attnbench.report.tables import verdicts
from attnbench.report.text import sentence
from attnbench.verdicts import Plan

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
    "independent": ("Welch's interval, exact permutation test", "8 + 8 seeds"),
    "paired": ("paired t interval, exact sign-flip test", "8 pairs"),
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


@pytest.fixture
def command(store: Path, monkeypatch, capsys):
    """Run a verb on the study's file; returns its exit code and what it said."""
    Path("all.yaml").write_text(json.dumps({"name": "all", **STUDY}))  # JSON is YAML

    def call(verb: str, *flags: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds to it
        with pytest.raises(SystemExit) as left:
            main([verb, *flags, "--store", str(store)])
        return left.value.code, capsys.readouterr().out

    return call


def arms(comparison: Comparison) -> list[list[tuple[str, int]]]:
    """For each cell the arms and how many runs each has."""
    return [[(arm.name, arm.accuracy.n) for arm in cell.arms] for cell in comparison.cells]


@pytest.fixture
def plan() -> Path:
    Path("plan.yaml").write_text(PLAN)
    return Path("plan.yaml")


# What is pooled


def test_runs_that_differ_in_mechanism_and_seed_are_one_cell_with_the_baseline_first():
    found = compare(records())
    assert arms(found) == [[("none", 5), ("cbam", 5), ("se", 5)]]
    assert [arm.difference is None for arm in found.cells[0].arms] == [True, False, False]
    assert not found.warnings


def test_an_arm_holds_its_accuracies_in_the_order_of_the_seeds():
    assert compare(reversed(records())).cells[0].arm("SE()").accuracies == ACCURACY["se"]


@pytest.mark.parametrize("given", [{"epochs": 4}, {"lr": 0.5}, {"backbone": "resnet20"}, {"test_limit": 9}])
def test_runs_of_another_recipe_are_another_cell_that_says_how_it_differs(given):
    found = compare(records() + records(given=given))
    assert arms(found) == [[("none", 5), ("cbam", 5), ("se", 5)]] * 2
    assert str(*given.values()) in found.cells[1].name


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
    ({"environment": {"code": "two"}}, "2 different package code are pooled"),
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


def test_failed_runs_count_for_nothing():
    failed = [dataclasses.replace(made, status="failed", test={}) for made in records("se")]
    assert arms(compare([*records("none"), *failed])) == [[("none", 5)]]


def test_a_study_counts_its_own_done_runs_and_says_how_many_are_missing(plan):
    others = records(given={"epochs": 9})
    failed = dataclasses.replace(records("cbam")[0], status="failed")
    found = compare(Study.load(plan), stored([*records("none", "se")[:-1], failed, *others]))
    assert arms(found) == [[("none", 5), ("se", 4)]]
    assert found.missing == 6
    assert "**6 runs of this study are not done yet.**" in markdown(found)


def test_a_studys_baseline_is_what_the_others_are_compared_with():
    fields = {"base": {"dataset": "digits", "epochs": 3}, "grid": {"attention": ["none", "se"]}, "seeds": 5}
    study = Study(name="s", baseline="SE", **fields)
    first, second = compare(study, stored(records("none", "se"))).cells[0].arms
    assert (first.name, second.name, first.difference) == ("se", "none", None)
    assert second.difference.mean == pytest.approx(-2.0)


@pytest.mark.parametrize("spelling", ["SE", "se(reduction=16)"])
def test_records_have_their_baseline_under_any_spelling(spelling):
    found = compare(records("none", "se"), plan=Plan(spelling))
    assert [(arm.name, arm.contrast is None) for arm in found.cells[0].arms] == [("se", True), ("none", False)]


def test_a_failed_run_is_named_with_its_reason_and_its_cell():
    failed = [record("se", 3, 0, {"epochs": n}, status="failed", test={}, error="loss is nan") for n in (3, 4)]
    found = compare([*records("none"), *records("none", given={"epochs": 4}), *failed])
    assert ["se seed 3 failed: loss is nan" in warning for warning in found.warnings] == [True, True]
    assert len({*found.warnings}) == 2, "nothing tells in which of the two cells the run is missing"


NEGATIVE = 182 - NONE + JITTER / 5


@pytest.mark.parametrize(
    ("values", "pairing", "negative", "warned"),
    [
        (NEGATIVE, "independent", True, True),
        (NEGATIVE, "paired", True, False),
        (182 - np.roll(NONE, 4), "independent", False, False),
        (NONE + JITTER, "independent", False, False),
    ],
    ids=["negative", "paired", "perhaps", "positive"],
)
def test_a_credibly_negative_correlation_is_warned_of_where_arms_are_independent(values, pairing, negative, warned):
    r = oracle.pearsonr(values, NONE)
    assert (r.confidence_interval().high < 0) == negative
    runs = [
        record(arm, seed, value) for arm in ("none", "se") for seed, value in enumerate((NONE, values)[arm == "se"])
    ]
    warnings = compare(runs, plan=Plan(pairing=pairing)).warnings
    assert len(warnings) == warned
    for said in warnings:
        assert f"se and none are negatively correlated over seeds (r {r.statistic:+.2f})" in said


def test_a_study_in_which_nothing_is_odd_has_no_warning(store):
    assert compare(Study(name="all", **STUDY), Store(store)).warnings == ()


# Verdicts in words


def welch(one, two, axis=0):
    return oracle.ttest_ind(one, two, axis=axis, equal_var=False).statistic


def measured(one: np.ndarray, two: np.ndarray, pairing: str) -> tuple[float, float, float, float, float]:
    """Difference, its interval, p, and the p of equivalence within two points."""
    exact = {"n_resamples": math.inf, "batch": 5000}
    if pairing == "paired":
        found = oracle.ttest_rel(one, two).confidence_interval()
        p = oracle.permutation_test((one - two,), np.mean, permutation_type="samples", **exact).pvalue
        return (one - two).mean(), *found, p, ttost_paired(one, two, -2, 2)[0]
    found = oracle.ttest_ind(one, two, equal_var=False).confidence_interval()
    p = oracle.permutation_test((one, two), welch, **exact).pvalue
    return one.mean() - two.mean(), *found, p, ttost_ind(one, two, -2, 2, usevar="unequal")[0]


def rounded(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


@PAIRINGS
def test_a_sentence_says_verdict_regime_numbers_tests_and_family(cell, pairing):
    numbers = {arm: measured(ACCURACIES[arm], ACCURACIES["none"], pairing) for arm in ANSWERS}
    adjusted = [multipletests([found[place] for found in numbers.values()], method="holm")[1] for place in (3, 4)]
    for arm, p, equal in zip(ANSWERS, *adjusted, strict=True):
        gap, low, high, *_ = numbers[arm]
        test, n = TESTS[pairing]
        tests = f"{test}: p {rounded(p)}"
        tests += f", two one-sided t tests: p {rounded(equal)}" * (arm not in ("se", "constant"))
        evidence = f"{gap:+.2f} points, 95 % interval [{low:+.2f}, {high:+.2f}], n = {n}"
        head = f"{cell.name} (recipe classic, 3 epochs): {ANSWERS[arm]} ({evidence}; {tests}, Holm's correction in a "
        said = sentence(cell.arm(arm).contrast, cell)
        assert said.isascii()
        assert said.startswith(f"{head}family of 5)")
        end = said.removeprefix(f"{head}family of 5)")
        more = cell.arm(arm).contrast.verdict.further
        assert end == (f"; about {more} more seeds an arm decide with 80 % probability." if arm == "cbam" else ".")


@pytest.mark.parametrize(("pairing", "seeds"), [("independent", 4), ("paired", 6)])
def test_a_sentence_about_one_seed_says_how_many_can_decide(pairing, seeds):
    found = compare([record("none", 0, 90.0, recipe=""), record("se", 0, 91.0)], plan=Plan(pairing=pairing))
    (said,) = verdicts(found)
    assert said.startswith(f"{found.cells[0].name} (recipe as given, 3 epochs): se against none is undecided (+1.00 ")
    assert said.endswith(f"a single comparison); one seed cannot decide, {seeds} seeds an arm can.")


@pytest.mark.parametrize(("margin", "said"), [(1.0, "within 1 point "), (0.75, "within 0.75 points ")])
def test_a_sentence_names_the_margin(margin, said):
    """Two arms of equal accuracies without spread."""
    found = compare([record(arm, seed, 90.0) for arm in ("none", "se") for seed in range(4)], plan=Plan(margin=margin))
    assert f"se and none are equivalent {said}" in verdicts(found)[0]


def test_the_same_sentences_are_on_the_console_and_in_the_report(command):
    code, page = command("report", "all.yaml")
    lines = [re.sub(r"\\(.)", r"\1", line).replace("&lt;", "<") for line in page.splitlines()]
    assert page.startswith(Path("reports/all/table.md").read_text())
    assert code == 0
    for arm, answer in ANSWERS.items():
        said = command("compare", arm, "none", "--study", "all.yaml")[1]
        assert answer in said
        assert lines.count(f"* {said.splitlines()[0]}") == 1
        assert said.isascii()


@pytest.mark.parametrize("arm", ANSWERS)
def test_two_arms_have_one_answer_whichever_is_named_first(cell, arm):
    """Also where the plan's family makes p larger: the pair is in the family either way round."""
    there, back = (cell.between(cell.arm(one), cell.arm(two)) for one, two in ((arm, "none"), ("none", arm)))
    assert back.difference.mean == pytest.approx(-there.difference.mean)
    assert back.verdict.kind == {"better": "worse", "worse": "better"}.get(there.verdict.kind, there.verdict.kind)
    assert (back.verdict.p_value, back.verdict.family) == (there.verdict.p_value, there.verdict.family)


@PAIRINGS
@pytest.mark.parametrize(("one", "two"), [("se", "cbam"), ("static", "random"), ("cbam", "static")])
def test_arms_that_the_plan_does_not_compare_are_a_family_of_one(cell, pairing, one, two):
    found = cell.between(cell.arm(one), cell.arm(two))
    gap, low, high, p, equal = measured(ACCURACIES[one], ACCURACIES[two], pairing)
    assert (found.arm, found.other, found.verdict.family) == (one, two, 1)
    assert [found.difference.mean, found.difference.low, found.difference.high] == pytest.approx([gap, low, high])
    assert [found.verdict.p_value, found.verdict.equivalence_p] == pytest.approx([p, equal])
    assert sentence(found, cell).partition("; ")[2].partition(")")[0].endswith("a single comparison")


def test_pairs_are_the_seeds_that_both_have(store):
    runs = [one for one in Store(store).records() if (one.spec["attention"], one.spec["seed"]) != ("none", 2)]
    others = np.delete(ACCURACIES["se"], 2), np.delete(ACCURACIES["none"], 2)
    for pairing, one, said in (("paired", others[0], "7 pairs"), ("independent", ACCURACIES["se"], "8 + 7 seeds")):
        found = compare(runs, plan=Plan(pairing=pairing)).cells[0].arm("se").contrast
        gap, low, high, *_ = measured(one, others[1], pairing)
        assert [found.difference.mean, found.difference.low, found.difference.high] == pytest.approx([gap, low, high])
        assert f"n = {said};" in sentence(found, compare(runs).cells[0])
