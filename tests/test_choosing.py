"""The best of many without training: the file, its rungs, what its budget pays for, who goes on, and the advice."""

import dataclasses
import importlib
import itertools
import json
import math
from pathlib import Path

import made
import numpy as np
import pytest
from conftest import ROOT

from attnbench import Store, compare
from attnbench.analysis.budget import Outline, outlined
from attnbench.analysis.cells import cell_of
from attnbench.analysis.choosing import Round, answer, halved, promised
from attnbench.analysis.plan import Plan
from attnbench.analysis.sample import Sample
from attnbench.catalogue.registry import ATTENTION
from attnbench.cli.choosing import answered
from attnbench.errors import BadStudy, BudgetTooSmall, Failed, StoreProblem
from attnbench.execution.choosing import Before, before_file, recalled
from attnbench.report import choosing as report
from attnbench.report.advice import Choice, alike
from attnbench.spec.contest import FRESH, Contest, Rung

FILE = Path("choice.yaml")
HEAD = """\
name: c
recipe: fast
base: {dataset: digits, backbone: resnet20, epochs: 9}
grid: {attention: %s}
budget: {runs: 300}
"""


def load(more: str = "", attention: str = "[se, eca, cbam, simam]") -> Contest:
    FILE.write_text(HEAD % attention + more)
    return Contest.load(FILE)


def mistakes(more: str = "", attention: str = "[se, eca]") -> list[str]:
    with pytest.raises(BadStudy) as caught:
        load(more, attention)
    return [line.removeprefix(f"{FILE}:") for line in str(caught.value).splitlines()]


def of_kind(*kinds: str) -> set[str]:
    return {entry.name for entry in ATTENTION if entry.builtin and not entry.card.control and entry.card.kind in kinds}


# The file


def test_the_repositorys_contest_loads():
    contest = Contest.load(ROOT / "studies" / "choose-eurosat.yaml")
    assert len(contest.arms) >= 30
    assert contest.rungs(len(contest.arms))


@pytest.mark.parametrize(
    ("asked", "kinds"), [("all", "DRS"), ("{kind: D}", "D"), ("{kind: R}", "R"), ("{kind: S}", "S")]
)
def test_mechanisms_are_asked_for_by_kind(asked, kinds):
    contest = load(attention=asked)
    assert set(contest.arms) == of_kind(*kinds)
    assert contest.baseline_text == "none"


def test_an_arm_is_listed_once_however_it_is_spelled_and_the_baseline_not_at_all():
    contest = load(attention="[SE, eca, none, se, 'se(reduction=16)', cbam]")
    assert contest.arms == ["SE", "eca", "cbam"]


def test_another_baseline_than_none():
    contest = load("baseline: se\n", "[none, SE, eca]")
    assert (contest.baseline_text, contest.arms) == ("SE", ["none", "eca"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("budget2: 3\n", "6: budget2: unknown field 'budget2'; did you mean 'budget'?"),
        ("limits: {latncy: 1.1}\n", "6: limits.latncy: 'latncy' is not one of"),
        ("limits: {latency: 0}\n", "6: limits.latency: 0 should be greater than 0"),
        ("confirm: 0\n", "6: confirm: 0 should be greater than or equal to 1"),
        ("screening:\n  epoch: 3\n", "7: screening.epoch: unknown field 'epoch'; did you mean 'epochs'?"),
        ("screening:\n  eta: 1\n", "7: screening.eta: 1 should be greater than 1"),
        ("screening:\n  seeds: 1.5\n", "7: screening.seeds: 1.5 should be a valid integer"),
        ("seeds: 5\n", "6: seeds: choose draws its seeds by itself"),
        ("looks: any\n", "6: looks: "),
        ("where:\n  - set: {evaluate: val}\n", "7: where[0].set.evaluate: screening is scored on validation images"),
        (
            "screening: {epochs: 1}\nwhere:\n  - set: {warmup: 2.0}\n",
            "6: screening: a first rung of 1 epochs cannot be:",
        ),
        ("screening: {epochs: 30}\n", "6: screening.epochs: 30 are more than the study's 9 epochs"),
        ("limits: {latency: 1.1}\nwhere:\n  - set: {stages: [1]}\n", "6: limits: limits are measured at every place"),
        (
            "limits: {latency: 1.1}\nwhere:\n  - set: {init: identity}\n",
            "6: limits: limits are measured at every place",
        ),
        (
            "limits: {latency: 1.1}\nwhere:\n  - {if: {attention: se}, set: {site: post}}\n",
            "6: limits: limits are measured",
        ),
        ("where:\n  - set: {attention: eca}\n", "7: where[0].set.attention: a rule that changes the mechanism"),
        ("where:\n  - if: {attention: se}\n    set: {epochs: 3}\n", "8: where[0].set.epochs: arms may differ in"),
    ],
)
def test_a_mistake_of_a_contest_is_named_with_its_line(more, said):
    assert any(line.startswith(said) for line in mistakes(more)), mistakes(more)


@pytest.mark.parametrize("epochs", ["x", "true", "[3]"])
def test_screening_is_not_compared_with_epochs_that_are_none(epochs):
    FILE.write_text((HEAD % "[se]").replace("epochs: 9", f"epochs: {epochs}") + "screening: {epochs: 2}\n")
    with pytest.raises(BadStudy) as told:
        Contest.load(FILE)
    assert all(line.startswith(f"{FILE}:3: base.epochs: ") for line in str(told.value).splitlines())


def test_the_grid_is_of_mechanisms_alone():
    FILE.write_text((HEAD % "[se]").replace("attention: [se]", "attention: [se], epochs: [1, 2]"))
    with pytest.raises(BadStudy, match=r":4: grid.epochs: choose compares mechanisms in one setting"):
        Contest.load(FILE)
    assert mistakes(attention="[none]") == [
        "4: grid.attention: nothing to choose from: no mechanism besides the baseline"
    ]
    assert any("choose needs grid.attention" in line for line in mistakes(attention="{kind: Q}"))


@pytest.mark.parametrize(
    "budget", ["{cpu_hours: 1, runs: 2}", "{}", "{cpu_hours: .nan}", "{runs: 0}", "{hours: 1}", "3"]
)
def test_a_budget_is_hours_or_runs(budget):
    FILE.write_text((HEAD % "[se]").replace("{runs: 300}", budget))
    with pytest.raises(BadStudy, match=r":5: budget"):
        Contest.load(FILE)


def test_a_contest_without_a_budget_is_none():
    FILE.write_text((HEAD % "[se]").replace("budget: {runs: 300}\n", ""))
    with pytest.raises(BadStudy, match="budget: required"):
        Contest.load(FILE)


# What is trained


@pytest.mark.parametrize("arms", [4, 7, 31, 69, 200])
@pytest.mark.parametrize("eta", [1.5, 2, 3, 4])
def test_rungs_go_down_to_those_that_are_confirmed(arms, eta):
    rungs = load(f"screening: {{epochs: 2, eta: {eta}}}\n").rungs(arms)
    assert rungs[0] == Rung(arms, 2, 1, 1, rungs[0].kept)
    assert rungs[-1].kept == 3
    for one, two in itertools.pairwise(rungs):
        assert one.kept == two.arms < one.arms
        assert two.epochs * two.seeds >= one.epochs * one.seeds
        assert two.epochs <= 9


def test_rungs_train_longer_first_and_with_more_seeds_then():
    contest = load("screening: {epochs: 3, eta: 3, seeds: 2}\nconfirm: 1\n")
    assert [(rung.epochs, rung.seeds, rung.new) for rung in contest.rungs(27)] == [(3, 2, 2), (9, 2, 2), (9, 6, 4)]


def test_nothing_is_screened_where_all_can_be_confirmed():
    assert load("confirm: 4\n").rungs(4) == []


def test_screening_is_scored_on_validation_images_with_seeds_that_confirmation_has_not():
    contest = load("screening: {train_fraction: 0.5}\n")
    (rung, *_) = contest.rungs(4)
    spec = contest.screening_run("se", rung, 0)
    assert (spec.evaluate, spec.val_fraction, spec.train_fraction, spec.epochs) == ("val", 0.2, 0.5, 3)
    study = contest.confirmation(["se"], [5, 8])
    assert {spec.evaluate for spec in study.runs()} == {"test"}
    assert {spec.attention for spec in study.runs()} == {"none", "se"}
    assert (study.name, study.looks, study.seed_list) == ("c-confirmation", [5, 8], list(range(FRESH, FRESH + 8)))
    assert type(study).__name__ == "Study"
    assert study.runs()[0].epochs == 9


def test_a_data_sets_own_validation_split_is_taken():
    FILE.write_text((HEAD % "[se]").replace("digits", "Oxford102Flowers"))
    contest = Contest.load(FILE)
    assert contest.screening_run("se", Rung(1, 1, 1, 1, 1), 0).val_fraction == 0.0


# Successive halving


def test_the_highest_means_go_on_and_the_baseline_never_leaves():
    asked: list[list[str]] = []
    means = {"none": 50.0, "a": 60.0, "b": 70.0, "c": 70.0, "d": 40.0}

    def score(rung, arms):
        asked.append(list(arms))
        return {arm: [means[arm] - 1, means[arm] + 1] for arm in arms}

    rounds = halved(["a", "b", "c", "d"], "none", [Rung(4, 1, 2, 2, 2), Rung(2, 3, 2, 2, 1)], score)
    assert asked == [["none", "a", "b", "c", "d"], ["none", "b", "c"]]
    assert [each.kept for each in rounds] == [("b", "c"), ("b",)]  # of equal ones the one named first
    assert promised(rounds, "none") == {"a": 10.0, "b": 20.0, "c": 20.0, "d": -10.0}


def test_an_arm_of_which_a_run_failed_goes_behind_those_of_which_none_did():
    scores = {"none": [50.0, 50.0], "a": [90.0, math.nan], "b": [40.0, 41.0], "c": [math.nan, math.nan]}
    (found,) = halved(["a", "b", "c"], "none", [Rung(3, 1, 2, 2, 2)], lambda rung, arms: scores)
    assert found.kept == ("b", "a")
    assert (found.mean("a"), math.isnan(found.mean("c"))) == (90.0, True)


# The budget


def plan(contest: Contest, price: float = 1.0) -> Outline:
    return outlined(contest, contest.arms, lambda arm, rung: price)


def test_what_is_left_after_screening_goes_into_the_looks():
    contest = load("confirm: 2\nscreening: {epochs: 9}\n")
    found = plan(dataclasses.replace(contest, budget={"runs": 45}))
    (rung,) = found.rungs
    assert found.screening == rung.new * 5 == 5  # four mechanisms and the baseline
    assert found.looks[-1] == (45 - 5) // 3
    assert found.screening + found.confirmation <= 45


def test_looks_of_the_file_are_kept():
    contest = load("looks: [6, 9, 12]\nconfirm: 2\n")
    assert plan(contest).looks == (6, 9, 12)


def test_a_budget_that_no_verdict_can_come_of_says_what_would_do():
    contest = dataclasses.replace(load("confirm: 3\n"), budget={"runs": 20})
    with pytest.raises(BudgetTooSmall) as caught:
        plan(contest)
    said = str(caught.value)
    assert "of 20 runs 15 are left after screening, enough for 3 seeds of 4 arms" in said
    assert "3 seeds cannot decide among 3 arms (the smallest p that they can reach is 0.3)" in said
    needed = int(said.split(" seeds need ")[1].split()[0])
    assert plan(dataclasses.replace(contest, budget={"runs": needed})).looks
    with pytest.raises(BudgetTooSmall):
        plan(dataclasses.replace(contest, budget={"runs": needed - 1}))


def test_looks_that_cannot_be_paid_or_cannot_decide_are_refused():
    with pytest.raises(BudgetTooSmall, match="80 seeds need"):
        plan(load("looks: [5, 80]\n"))
    with pytest.raises(BudgetTooSmall, match=r"looks: 3 seeds cannot decide .* give at least 5"):
        plan(load("looks: [2, 3]\n"))


def test_hours_are_counted_by_what_runs_take():
    contest = dataclasses.replace(load(), budget={"cpu_hours": 1.0})
    assert plan(contest, 1 / 60).screening + plan(contest, 1 / 60).confirmation <= 1.0
    with pytest.raises(BudgetTooSmall, match="CPU-hours"):
        plan(contest, 0.2)


# The answer


def confirmed(**gains: float):
    rng, seeds = np.random.default_rng(3), tuple(range(8))
    samples = {
        arm: Sample(arm, seeds, 80 + gain + 0.4 * rng.standard_normal(8))
        for arm, gain in {"none": 0.0, **gains}.items()
    }
    cell = cell_of("c", samples, Plan("none", looks=(5, 8)))
    return answer(cell)


def test_the_advice_is_the_highest_of_those_that_are_better():
    found = confirmed(se=2.0, eca=4.0, cbam=0.0)
    assert found.winner is not None
    assert (found.winner.name, [arm.name for arm in found.best]) == ("eca", ["eca"])


def test_two_that_are_equally_good_are_both_among_the_best():
    found = confirmed(se=3.0, eca=3.0)
    assert {arm.name for arm in found.best} == {"se", "eca"}


def test_where_nothing_is_better_the_advice_is_to_stay():
    found = confirmed(se=0.0, eca=0.1)
    assert found.winner is None
    assert "none" in {arm.name for arm in found.best}


@pytest.mark.parametrize(("failures", "rows"), [("worst", ["none", "cbam", "se"]), ("drop", ["none", "cbam"])])
def test_a_mechanism_all_of_whose_runs_failed_is_told_and_nothing_breaks(failures, rows):
    contest = load(f"failures: {failures}\n", attention="[se, cbam]")
    study, store = contest.confirmation(contest.arms, [5]), Store("runs")
    for record in made.fill(store.path, study):
        if record.spec["attention"] == "se":
            made.fail(store.path, record)
    found = Choice(contest, plan(contest), {}, {}, [], compare(study, store), (0, 0))
    assert "trains fastest" in alike(found)
    assert sorted(row[0] for row in report.confirmed(found)[2]) == sorted(rows)
    assert report.markdown(found)
    assert report.figures(found)


@pytest.mark.parametrize("lost", [{"none"}, {"none", "se", "cbam"}])
def test_where_every_run_of_the_baseline_failed_nothing_is_advised_and_one_line_says_so(lost, monkeypatch):
    contest = load(attention="[se, cbam]")
    study, store = contest.confirmation(contest.arms, [5]), Store("runs")
    for record in made.fill(store.path, study):
        if record.spec["attention"] in lost:
            made.fail(store.path, record)
    monkeypatch.setattr("attnbench.execution.choosing.spent", lambda *_: (0.0, 0.0))
    before = Before(tuple(contest.arms), {}, {}, {})
    with pytest.raises(
        Failed, match=r"every run of none, or of all mechanisms, failed.* store list status=failed --store runs"
    ):
        answered(contest, before, [], study, store)


@pytest.mark.parametrize("lost", ["none", "se"])
def test_what_screening_could_not_promise_has_no_row_and_the_page_is_written(lost, tmp_path):
    contest = load(attention="[se, cbam]")
    study, store = contest.confirmation(contest.arms, [5]), Store("runs")
    made.fill(store.path, study)
    scores = {arm: (math.nan if arm == lost else 70.0,) for arm in ("none", "se", "cbam")}
    last = Round(Rung(2, 3, 1, 1, 2), scores, ("se", "cbam"))
    found = Choice(contest, plan(contest), {}, {}, [last], compare(study, store), (0, 0))
    assert all(json.dumps(shown.chart, allow_nan=False) for shown in report.figures(found))


@pytest.mark.parametrize("text", ["[]", "{}", '{"contest": 3}', "nothing"])
def test_a_file_of_what_was_known_before_that_is_none_is_told_in_a_line(text):
    contest, store = load(attention="[se, cbam]"), Store("runs")
    file = before_file(contest, store)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(StoreProblem, match=r"cannot be read .* delete it to measure again"):
        recalled(contest, store)


# Planted worlds


def test_the_planted_one_is_found_and_nothing_else(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    worlds = importlib.import_module("planted_worlds")
    planted = [worlds.outcome(worlds.World("one better by 2 points", (2.0,)), number) for number in range(12)]
    alike = [worlds.outcome(worlds.World("none better"), number) for number in range(12)]
    assert sum(each["one of the truly best advised"] for each in planted) >= 10
    assert sum(each["advised though not better"] for each in (*planted, *alike)) <= 1
    assert np.mean([each["promised less truth"] for each in alike]) > 0.3  # the luck of the largest of thirty
    assert abs(np.mean([each["confirmed less truth"] for each in alike])) < 0.3
