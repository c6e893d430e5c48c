"""Whole stores: listed, merged without a silent choice, and rid of what nothing needs."""

import dataclasses
import json
from pathlib import Path

import made
import pytest

from attnbench import Store, Study
from attnbench.cli import main
from attnbench.errors import StoreProblem
from attnbench.files import whole_lines
from attnbench.store.upkeep import listed, merge, needless


def plan(**changed) -> Study:
    fields = {"base": {"dataset": "digits", "epochs": 3}, "grid": {"attention": ["none", "se"]}, "seeds": 2}
    return Study(name="two", **{**fields, **changed})


@pytest.fixture
def stores() -> tuple[Store, Store]:
    """Two stores with one seed of a study each, and both with the other's study journal."""
    one, two = Store("one"), Store("two")
    for store, seed in ((one, 0), (two, 1)):
        made.fill(store.path, plan(seeds=[seed]))
        (store.path / "studies").mkdir()
        line = {"event": "look", "time": float(seed), "seen": {"digits": {"none": [seed]}}}
        (store.path / "studies" / "two.jsonl").write_text(json.dumps(line) + "\n")
    return one, two


def content(store: Store) -> dict[str, bytes]:
    files = (file for file in store.path.rglob("*") if file.is_file())
    return {str(file.relative_to(store.path)): file.read_bytes() for file in files}


def test_stores_of_two_machines_become_one_and_the_order_is_nothing(stores):
    one, two = stores
    found = merge(Store("goal"), [one, two])
    assert (len(found.copied), found.same, found.conflicts) == (4, (), {})
    assert merge(Store("other"), [two, one]).copied
    assert content(Store("goal")) == content(Store("other"))
    assert {record.id for record in Store("goal").records()} == {spec.id for spec in plan().runs()}
    assert [line["time"] for line in whole_lines(Path("goal/studies/two.jsonl"))] == [0.0, 1.0]


def test_what_is_there_already_is_not_copied_and_nothing_changes(stores):
    merge(Store("goal"), stores)
    before = content(Store("goal"))
    again = merge(Store("goal"), stores)
    assert (again.copied, len(again.same), again.conflicts) == ((), 4, {})
    assert content(Store("goal")) == before


def test_of_two_results_of_one_run_neither_is_chosen(stores, capsys):
    one, _ = stores
    record = one.records()[0]
    other = dataclasses.replace(record, weights_sha256="0" * 64, test={**record.test, "accuracy": 1.0})
    (Path("three") / record.id).mkdir(parents=True)
    Store("three").save(other)
    before = content(one)
    with pytest.raises(SystemExit) as ended:
        main(["store", "merge", "three", "--store", "one"])
    assert ended.value.code == 1
    assert content(one) == before
    said = capsys.readouterr().out
    assert f"conflict: {record.id}" in said
    assert "differs in test, weights_sha256; neither was chosen" in said
    assert "0 runs copied into one/, 0 were there, 1 conflicts" in said


def test_a_run_that_is_done_takes_the_place_of_one_that_failed_and_not_the_other_way(stores):
    one, _ = stores
    record = one.records()[0]
    merge(Store("failed"), [one])
    made.fail(Path("failed"), record)
    assert record.id in merge(one, [Store("failed")]).same
    assert one.record(record.id).done
    assert record.id in merge(Store("failed"), [one]).copied
    assert Store("failed").record(record.id).done


def test_an_unfinished_run_travels_to_where_nothing_of_it_is_and_nowhere_else(stores):
    one, two = stores
    run = "0123456789ab"
    for store, text in ((one, "mine"), (two, "theirs")):
        store.begin(run)
        store.log(run, "start", whose=text)
    assert run in merge(Store("goal"), [one, two]).copied
    assert Store("goal").journal(run)[0]["whose"] == "mine"


def test_runs_are_listed_by_what_they_are(stores):
    merge(Store("goal"), stores)
    assert len(list(listed(Store("goal"), {"attention": "se"}))) == 2
    assert len(list(listed(Store("goal"), {"attention": "se", "seed": "1", "status": "done"}))) == 1
    with pytest.raises(StoreProblem, match="'colour' is no field of a run; known are attention"):
        list(listed(Store("goal"), {"colour": "red"}))


def test_only_what_nothing_needs_is_removed(stores, capsys):
    one, _ = stores
    done, unfinished = one.records()[0].id, "0123456789ab"
    one.begin(unfinished)
    for file in (f"{done}/checkpoint-00001-0000000.pt", f"{unfinished}/checkpoint-00001-0000000.pt", "x.partial"):
        (one.path / file).write_text("state")
    gone = {one.path / done / "checkpoint-00001-0000000.pt", one.path / "x.partial"}
    assert set(needless(one)) == gone
    before = set(content(one))
    for flags, said in ((["--dry-run"], "2 files of 0.0 MB would be removed"), ([], "2 files of 0.0 MB were removed")):
        with pytest.raises(SystemExit) as ended:
            main(["store", "prune", "--store", "one", *flags])
        assert ended.value.code == 0
        assert said in capsys.readouterr().out
    assert before - set(content(one)) == {str(file.relative_to(one.path)) for file in gone}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["list", "se", "--store", "one"], "'se' is not FIELD=VALUE"),
        (["list", "--store", "nowhere"], "nowhere/: no such folder"),
        (["merge", "--store", "one"], "needs other stores"),
        (["merge", "nowhere", "--store", "one"], "nowhere/: no such folder"),
        (["prune", "one"], "no such folder"),
        (["prune", "two", "--store", "one"], "takes no 'two'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(stores, asked, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["store", *asked])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
