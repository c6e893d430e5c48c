"""Whole stores: listed, merged without a silent choice, and rid of what nothing needs."""

import contextlib
import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import made
import pytest
from conftest import wait_for

from attnbench import Runtime, Store, Study
from attnbench.cli import main
from attnbench.errors import StoreProblem
from attnbench.examine.integrity import check
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


def test_a_failure_elsewhere_takes_no_checkpoints_from_a_run_that_has_not_ended(stores):
    one, _ = stores
    record, goal = one.records()[0], Store("goal")
    made.fail(one.path, record)
    goal.begin(record.id)
    (goal.folder(record.id) / "checkpoint-00090-0000000.pt").write_bytes(b"days of work")
    assert record.id in merge(goal, [one]).same
    assert len(goal.checkpoints(record.id)) == 1


def test_a_run_that_is_being_trained_here_is_waited_for(stores, capsys):
    (one, _), goal = stores, Store("goal")
    run = one.records()[0].id
    goal.begin(run)
    with ThreadPoolExecutor() as pool:
        with goal.lock(run):
            merging = pool.submit(merge, goal, [one])
            wait_for(lambda: "waiting for it" in capsys.readouterr().err)
            made.fill(goal.path, plan(seeds=[0]))
        assert run in merging.result().same


@pytest.mark.parametrize("line", ["[]", '{"event": "look", "time": "a", "seen": {}}', '{"time": 1}'])
def test_a_broken_journal_of_a_study_is_refused_before_anything_is_copied(stores, line):
    one, two = stores
    (two.path / "studies" / "two.jsonl").write_text(line + "\n")
    with pytest.raises(StoreProblem, match=r"two/studies/two\.jsonl:1: "):
        merge(Store("goal"), [one, two])
    assert not Path("goal").exists()


def test_a_copied_folder_and_what_a_killed_merge_left_are_no_second_run(stores, capsys):
    one, _ = stores
    run = one.records()[0].id
    before = [str(remark) for remark in check(one)]
    for name in (f".{run}.partial", f"{run}.bak"):
        shutil.copytree(one.folder(run), one.folder(name))
    assert [record.id for record in one.records()].count(run) == 1
    assert f"one/{run}.bak/ is left out: its record is that of run {run}" in capsys.readouterr().err
    assert one.find(run).id == run
    assert needless(one) == [one.folder(f".{run}.partial")]
    shutil.rmtree(one.folder(f"{run}.bak"))
    assert [str(remark) for remark in check(one)] == before
    assert run in merge(Store("goal"), [one]).copied
    assert not Store("goal").folder(f".{run}.partial").exists()


def test_runs_are_listed_by_what_they_are(stores):
    merge(Store("goal"), stores)
    assert len(list(listed(Store("goal"), {"attention": "se"}))) == 2
    assert len(list(listed(Store("goal"), {"attention": "se", "seed": "1", "status": "done"}))) == 1
    assert len(list(listed(Store("goal"), {"weights": "none", "evaluate": "test"}))) > 2  # fields of later versions
    with pytest.raises(StoreProblem, match="'colour' is no field of a run; known are attention"):
        list(listed(Store("goal"), {"colour": "red"}))


def test_only_what_nothing_needs_is_removed(stores, capsys):
    one, _ = stores
    done, unfinished = one.records()[0].id, "0123456789ab"
    one.begin(unfinished)
    for file in (
        f"{done}/checkpoint-00001-0000000.pt",
        f"{unfinished}/checkpoint-00001-0000000.pt",
        "x.partial",
        f"{unfinished}/checkpoint-00002-0000000.pt.partial",
    ):
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


@pytest.fixture
def written() -> Store:
    """A store of two runs whose files were hashed when they were written, and one run that is not done."""
    store = Store("written")
    for record in made.fill(store.path, plan(seeds=1), images=60):
        (store.folder(record.id) / "weights.safetensors").write_bytes(b"weights")
        store.finish(record)
    store.begin("0123456789ab")
    store.log("0123456789ab", "start")
    for step in (1, 2):
        store.checkpoint("0123456789ab", {"epoch": 0, "step": step, "resumed": 0, "numerics": {}, "curves": []})
    return store


def flip(file: Path, place: int) -> None:
    """Change one byte."""
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_a_store_whose_files_are_as_they_were_written_passes(written, capsys):
    assert [str(remark) for remark in check(written)] == [
        "ok      2 records, their files and 2 checkpoints are as written"
    ]
    with pytest.raises(SystemExit) as ended:
        main(["store", "check", "--store", "written"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("ok ")


@pytest.mark.parametrize(
    "name", ["record.json", "predictions.npz", "weights.safetensors", "checkpoint-00000-0000002.pt"]
)
def test_whichever_byte_is_flipped_the_check_names_the_file(written, name, capsys):
    (file,) = (file for file in sorted(written.path.glob(f"*/{name}"))[:1])
    size = file.stat().st_size
    for place in (size // 3, size // 2, size - 40):
        before = file.read_bytes()
        flip(file, place % size)
        with pytest.raises(SystemExit) as ended:
            main(["store", "check", "--store", "written"])
        assert ended.value.code == 1
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
        assert str(file) in line
        file.write_bytes(before)


def test_a_record_that_was_edited_by_hand_is_found(written):
    record = written.records()[0]
    file = written.folder(record.id) / "record.json"
    file.write_text(file.read_text().replace('"resumed": 0', '"resumed": 1'))
    (problem,) = [str(remark) for remark in check(written) if remark.word == "FAILED"]
    assert problem == f"FAILED  {file} was changed after it was written"


def test_a_record_from_before_hashes_were_kept_is_checked_by_its_predictions(stores):
    one, _ = stores
    assert "2 runs whose journal keeps no hashes" in str(check(one)[1])
    record = one.records()[0]
    one.save(dataclasses.replace(record, test={**record.test, "accuracy": 99.5}))
    (problem,) = [str(remark) for remark in check(one) if remark.word == "FAILED"]
    assert f"{record.id}/record.json: its test accuracy is {record.accuracy} by its predictions, 99.5" in problem


def test_files_that_are_gone_are_said_and_lines_that_a_crash_cut_off(written):
    run = written.records()[0].id
    (written.folder(run) / "weights.safetensors").unlink()
    with (written.folder("0123456789ab") / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "epo')
    found = check(written)
    assert [remark.word for remark in found] == ["ok", "note", "note"]
    assert "1 file (weights, predictions)" in found[1].text
    assert "crash cut off" in found[2].text


def test_a_file_that_cannot_be_read_is_named_and_hashes_that_are_none_are_not_taken(written, monkeypatch):
    run = written.records()[0].id

    def broken(file: Path) -> str:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr("attnbench.examine.integrity.digest_of", broken)
        found = [remark.text for remark in check(written) if remark.word == "FAILED"]
    assert f"{written.folder(run)}/record.json cannot be read (Input/output error)" in found
    journal = written.folder(run) / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"event": "done", "time": 1.0, "sha256": null}\n')
    assert any("1 run whose journal keeps no hashes" in remark.text for remark in check(written))


def test_an_export_is_a_bundle_that_is_reported_on_and_merged_elsewhere(stores, capsys, monkeypatch):
    monkeypatch.setattr("attnbench.report.pictures", lambda *_: [])
    one, two = stores
    merge(Store("goal"), [one, two])
    (Store("goal").folder(one.records()[0].id) / "weights.safetensors").write_bytes(b"weights")
    file = plan().save(Path("two.yaml"))
    for command in (
        ["store", "export", str(file), "--store", "goal", "--out", "two.zip", "--weights"],
        ["verify", "two.zip"],
        ["report", "two.zip", "--out", "there"],
        ["report", str(file), "--store", "goal", "--out", "here"],
        ["store", "merge", "two.zip", "--store", "elsewhere"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0, capsys.readouterr()
    assert Path("there/table.md").read_text() == Path("here/table.md").read_text()
    files = content(Store("goal"))
    there = {name: data for name, data in content(Store("elsewhere")).items() if not name.startswith("studies")}
    assert there == {name: files[name] for name in there}
    assert sum(name.endswith("weights.safetensors") for name in there) == 1


def test_reproduce_finds_a_run_and_its_peers_in_a_bundle(stores, monkeypatch):
    one, _ = stores
    run, found = one.records()[0].id, []

    def again(asked: str, runtime: Runtime, _code: object) -> SimpleNamespace:
        found.append((Store(runtime.store).find(asked), len(Store(runtime.store).records())))
        return SimpleNamespace(verdict="identical")

    monkeypatch.setattr("attnbench.examine.reproduce.reproduce", again)
    for command in (
        ["store", "export", "--store", "one", "--out", "one.zip"],
        ["reproduce", run[:8], "--store", "one.zip"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    assert found == [(one.record(run), 2)]


def test_a_bundle_that_was_changed_is_not_reported_on(stores, capsys):
    one, _ = stores
    with contextlib.suppress(SystemExit):
        main(["store", "export", "--store", "one", "--out", "one.zip"])
    content = bytearray(Path("one.zip").read_bytes())
    place = content.index(b'"accuracy": ') + 12
    content[place] ^= 1
    Path("one.zip").write_bytes(content)
    for command in (["report", "one.zip"], ["reproduce", one.records()[0].id, "--store", "one.zip"]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert "one.zip: " in capsys.readouterr().err
    assert not Path("reports").exists()


def test_decoded_images_that_nothing_names_go_too(stores, capsys):
    home = Path("data/.cache")
    for name in ("digits-train-8-old", "digits-train-8-new"):
        (home / name).mkdir(parents=True)
        (home / name / "about.json").write_text("{}")
    (home / "digits-train-8-x.json").write_text('{"state": "s", "folder": "digits-train-8-new"}')
    for kept, flags in ((True, ["--dry-run"]), (False, [])):
        with pytest.raises(SystemExit):
            main(["store", "prune", "--store", "one", "--data-dir", "data", *flags])
        assert "1 decoded data sets that nothing names any more" in capsys.readouterr().out
        assert (home / "digits-train-8-old").exists() == kept
    assert (home / "digits-train-8-new").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["list", "se", "--store", "one"], "'se' is not FIELD=VALUE"),
        (["list", "--store", "nowhere"], "nowhere/: no such folder"),
        (["merge", "--store", "one"], "needs other stores"),
        (["merge", "nowhere", "--store", "one"], "nowhere/: no such folder"),
        (["prune", "one"], "no such folder"),
        (["prune", "two", "--store", "one"], "store prune takes no 'two'"),
        (["check", "two", "--store", "one"], "store check takes no 'two'"),
        (["export", "a.yaml", "b.yaml", "--store", "one"], "store export takes no 'b.yaml'"),
        (["merge", "broken.zip", "--store", "one"], "broken.zip"),
        (["merge", "two", "--store", "one", "--dry-run"], "--dry-run is for attnbench store prune; merge has no use"),
        (["check", "--store", "one", "--weights"], "--weights is for attnbench store export; check has no use"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(stores, asked, said, capsys):
    Path("broken.zip").write_bytes(b"no bundle")
    with pytest.raises(SystemExit) as ended:
        main(["store", *asked])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
