"""From records to a comparison: what is pooled, what is missing, and what is warned of."""

import dataclasses
from pathlib import Path

import pytest
from handmade import ACCURACY, PLAN, records, stored

from attnbench import Study, compare
from attnbench.comparison import Comparison
from attnbench.report import markdown


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
    for made in records("se"):
        form = {**made.canonical, "versions": {**made.canonical["versions"], "attention": version}}
        newer.append(dataclasses.replace(made, id=f"newer{made.id}", canonical=form))
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
