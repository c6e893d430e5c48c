"""What is kept of a study: its plan before the first run, and each look at its verdicts."""

import json
import multiprocessing
from pathlib import Path

import pytest

from attnbench import Store, Study
from attnbench.errors import StoreProblem
from attnbench.store.studies import StudyJournal, differences, plan_of

FILE = Path("runs/studies/plan.jsonl")
SEEN = {"digits": {"none": (0, 1, 2), "se": (0, 1, 2)}}


def plan(**changed) -> Study:
    fields = {"base": {"dataset": "digits", "epochs": 3}, "grid": {"attention": ["none", "se"]}, "seeds": 5}
    return Study(name="plan", **{**fields, **changed})


def journal() -> StudyJournal:
    return StudyJournal(Store("runs"), "plan")


def begin(study: Study) -> None:
    """The first of its runs has begun."""
    store, run = Store("runs"), study.runs()[0].id
    store.begin(run)
    store.log(run, "start")


def lines() -> list[dict]:
    return [json.loads(line) for line in FILE.read_text().splitlines()]


# The plan


def test_a_plan_is_written_once_and_again_when_it_differs():
    for study in (plan(), plan(), plan(margin=0.5), plan(margin=0.5), plan()):
        journal().keep_plan(study)
    assert [(line["event"], line["margin"]) for line in lines()] == [("plan", 1.0), ("plan", 0.5), ("plan", 1.0)]
    assert lines()[0]["hash"] == lines()[2]["hash"] != lines()[1]["hash"]


CHANGED = [
    ({"margin": 0.5}, "margin changed from 1 to 0.5"),
    ({"pairing": "paired"}, "pairing changed from independent to paired"),
    ({"baseline": "se"}, "baseline changed from none to se"),
    ({"looks": [3, 5]}, "looks changed from none to [3, 5]"),
    ({"failures": "drop"}, "failures changed from worst to drop"),
    ({"seeds": 8}, "seeds changed from 5 to 8"),
    ({"seeds": [4, 2]}, "seeds changed from 5 to [4, 2]"),
    ({"grid": {"attention": ["none", "se", "cbam", "eca"]}}, "cbam site=block and eca site=block added"),
    ({"grid": {"attention": ["none"]}}, "se site=block left out"),
]


@pytest.mark.parametrize(("changed", "said"), CHANGED, ids=[said for _, said in CHANGED])
def test_what_was_changed_after_the_first_run_is_said_in_a_few_words(changed, said):
    journal().keep_plan(plan())
    assert journal().changes(plan()) == []
    begin(plan())
    journal().keep_plan(plan(**changed))
    assert journal().changes(plan(**changed)) == [said]
    assert journal().changes(plan()) == []


def test_what_was_changed_before_the_first_run_is_no_change():
    journal().keep_plan(plan(margin=2.0))
    journal().keep_plan(plan())
    begin(plan())
    journal().keep_plan(plan(margin=3.0))
    assert journal().changes(plan(margin=3.0)) == ["margin changed from 1 to 3"]


def test_a_plan_that_was_kept_after_runs_had_begun_is_the_first_that_is_known():
    begin(plan())
    journal().keep_plan(plan())
    assert lines()[0]["begun"]
    assert journal().changes(plan(margin=3.0)) == ["margin changed from 1 to 3"]


def test_without_a_journal_nothing_is_known_of_changes():
    assert (journal().changes(plan()), journal().looks()) == ([], [])


def test_every_part_of_a_plan_is_told_when_it_changes():
    before = plan_of(plan())
    after = {name: "other" for name in before if name != "cells"} | {"cells": {}}
    assert len(differences(before, after)) == len(before)


def test_a_run_field_that_changes_is_another_cell_of_the_plan():
    one, two = (plan_of(plan(base={"dataset": "digits", "epochs": epochs}))["cells"] for epochs in (3, 4))
    assert list(one.values()) == list(two.values())
    assert list(one) != list(two)


# Looks


def test_looks_are_kept_in_order_and_the_same_data_once():
    later = {"digits": {"none": (0, 1, 2, 3), "se": (0, 1, 2, 3)}}
    for seen in (SEEN, SEEN, later, SEEN, later):
        journal().keep_look(seen)
    assert [look.seen for look in journal().looks()] == [SEEN, later]


def test_a_look_is_of_the_cells_that_are_new():
    other = {"eurosat": {"none": (0, 1)}}
    for seen in (SEEN, SEEN | other):
        journal().keep_look(seen)
    assert [look.seen for look in journal().looks()] == [SEEN, other]


@pytest.mark.parametrize("cut", [1, 20])
def test_a_line_that_a_crash_cut_off_spoils_no_other(cut):
    journal().keep_look(SEEN)
    whole = FILE.read_text()
    FILE.write_text(whole + whole[:-cut])
    assert len(journal().looks()) == (2 if cut == 1 else 1)
    later = {"digits": {"none": (7,)}}
    journal().keep_look(later)
    assert journal().looks()[-1].seen == later


def _many(number: int) -> None:
    for look in range(10):
        journal().keep_look({f"cell {number}": {"none": (look,)}})


def test_two_processes_that_look_at_once_lose_nothing():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_many, range(2))
    assert sorted(str(look.seen) for look in journal().looks()) == sorted(
        str({f"cell {number}": {"none": (look,)}}) for number in range(2) for look in range(10)
    )


@pytest.mark.parametrize("name", ["n" * 300, "plan"])
def test_a_journal_that_cannot_be_read_is_one_line(name):
    FILE.mkdir(parents=True)
    with pytest.raises(StoreProblem, match=r"\.jsonl cannot be read: [^\n]+$"):
        StudyJournal(Store("runs"), name).looks()


def _taken(number: int) -> None:
    for look in range(10):
        line = {"event": "look", "time": float(look), "seen": {f"taken {number}": {"none": [look]}}}
        journal().take([line])


def test_a_look_while_another_journal_is_merged_is_not_lost():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for each in [pool.map_async(_taken, [0]), pool.map_async(_many, [1])]:
            each.get()
    assert len(journal().looks()) == 20


def test_where_nothing_can_be_written_a_plan_is_refused_and_a_look_is_said_to_be_lost(capsys):
    Path("runs").write_text("a file")
    with pytest.raises(StoreProblem, match=r"studies/plan\.jsonl cannot be written"):
        journal().keep_plan(plan())
    journal().keep_look(SEEN)
    assert "this look at the verdicts is not kept" in capsys.readouterr().err
