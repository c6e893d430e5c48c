"""Bundles: what is submitted is examined by others and comes out the same, and a folder of them becomes one page."""

import json
import shutil
import zipfile
from pathlib import Path

import made
import pytest
from bundles import SMALL, first, forged, made_bundle, members, packed, signed, submitted
from conftest import ROOT, TINY

from attnbench import RunSpec, Store, Study, compare, demo
from attnbench.cli.sharing import leaderboard, submit, verify
from attnbench.errors import StoreProblem
from attnbench.examine.declarations import reported
from attnbench.examine.recount import loss_between
from attnbench.examine.verify import verify as examined
from attnbench.report.text import verdict_rows
from attnbench.store.bundle import MANIFEST
from attnbench.store.studies import StudyJournal

FOLDERS = sorted((ROOT / "results").glob("reference-*"))
REFERENCES = [folder.name for folder in FOLDERS if StudyJournal(Store(folder), folder.name).looks()]
"""The reference studies that have come to their first look."""


def remarks(file: Path, folder: str = "unpacked") -> list[str]:
    shutil.rmtree(folder, ignore_errors=True)
    return [str(remark) for remark in examined(file, Path(folder)).remarks]


def test_a_bundle_is_what_it_says(capsys):
    bundle = made_bundle(made.study(**SMALL))
    assert verify(bundle) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()] == ["ok"] * 8 + ["made.zip:"], said
    assert "recomputed from the predictions of 6 runs" in said
    assert "before the first run began (6 of 6 runs say when they began)" in said


def test_equal_contents_give_equal_bytes():
    plan = made.study(**SMALL)
    one = made_bundle(plan).read_bytes()
    assert submitted(plan, Path("runs"), Path("again.zip")).read_bytes() == one
    shutil.copytree("runs", "elsewhere/runs")
    assert submitted(plan, Path("elsewhere/runs"), Path("other.zip")).read_bytes() == one


def test_a_bundle_is_named_by_the_study_and_by_its_content(capsys):
    plan = made.study(**SMALL)
    made_bundle(plan)
    assert submit(Path("made.yaml"), "runs") == 0
    (file,) = (path for path in Path().glob("made-*.zip"))
    assert str(file) in capsys.readouterr().out
    assert verify(file) == 0
    other = file.rename(f"made-{'0' * 12}.zip")
    assert any("name says that its content is 000000000000" in line for line in remarks(other))


def test_a_bundle_holds_records_predictions_plan_and_study_and_nothing_else():
    plan = made.study(**SMALL)
    content = members(made_bundle(plan))
    runs = {f"{spec.id}/{name}" for spec in plan.runs() for name in ("record.json", "predictions.npz")}
    assert set(content) == {MANIFEST, "study.yaml", "studies/made.jsonl", *runs}
    assert content["study.yaml"] == Path("made.yaml").read_bytes()


def test_an_unpacked_bundle_is_a_store():
    plan = made.study(**SMALL)
    with zipfile.ZipFile(made_bundle(plan)) as bundle:
        bundle.extractall("unzipped")
    again = compare(Study.load("unzipped/study.yaml"), Store("unzipped"))
    assert verdict_rows(again) == verdict_rows(compare(plan, Store("runs")))


@pytest.mark.parametrize("looks", [None, [3, 5, 6], "any"], ids=str)
@pytest.mark.parametrize("failures", ["worst", "drop"])
def test_verdicts_told_from_the_plan_are_those_told_from_the_study(looks, failures):
    plan = made.study(looks=looks, failures=failures)
    StudyJournal(Store("runs"), plan.slug).keep_plan(plan)
    records = made.fill(Path("runs"), plan, images=120)
    made.fail(Path("runs"), records[8])
    shutil.rmtree(Path("runs") / records[-1].id)
    lines = remarks(submitted(plan, Path("runs"), Path("made.zip")))
    assert lines[-1] == "ok      verdicts told again from the records: digit for digit"
    assert any("1 run that failed" in line for line in lines)
    assert any("1 of 84 planned runs are not there" in line for line in lines)


def test_a_report_of_a_bundle_misses_the_runs_that_verdicts_need_and_no_others():
    """Its arms were decided at the first look, as at home."""
    plan = made.study(**{**SMALL, "seeds": 9, "looks": [5, 9]})
    StudyJournal(Store("runs"), plan.slug).keep_plan(plan)
    for record in made.fill(Path("runs"), plan, images=120):
        if record.spec["seed"] >= 5:
            shutil.rmtree(Path("runs") / record.id)
    home = compare(plan, Store("runs"))
    found = examined(submitted(plan, Path("runs"), Path("made.zip")), Path("unpacked"))
    assert reported(found.comparison, found.bundle, found.records).missing == home.missing
    lost = home.cells[0].arm("se").records[-1].id
    shutil.rmtree(Path("runs") / lost)
    found = examined(submitted(plan, Path("runs"), Path("less.zip")), Path("less"))
    assert reported(found.comparison, found.bundle, found.records).missing == compare(plan, Store("runs")).missing > 0


def test_a_folder_of_runs_is_a_bundle_without_a_plan(capsys):
    made.fill(Path("runs"), made.study(**SMALL), images=120)
    assert submit(Path("runs"), out=Path("runs.zip")) == 0
    assert verify(Path("runs.zip")) == 0
    assert "note    a folder of runs without a study" in capsys.readouterr().out


def test_the_committed_records_are_what_they_say(capsys):
    shutil.copytree(ROOT / "results" / "quick", "quick")
    assert submit(demo.STUDY, "quick", Path("quick.zip")) == 0
    assert "no plan is declared in it: no plan was written before the runs" in capsys.readouterr().out
    assert verify(Path("quick.zip")) == 0
    assert "FAILED" not in capsys.readouterr().out


@pytest.mark.parametrize("name", REFERENCES)
def test_a_bundle_of_the_reference_study_is_what_it_says(name, capsys):
    shutil.copytree(ROOT / "results" / name, name)
    assert submit(ROOT / "studies" / f"{name}.yaml", name, Path("reference.zip")) == 0
    assert verify(Path("reference.zip")) == 0
    said = capsys.readouterr().out
    runs = len(list(Path(name).glob("*/record.json")))
    assert f"recomputed from the predictions of {runs} runs" in said
    assert f"before the first run began ({runs} of {runs} runs say when they began)" in said
    assert "verdicts told again from the records: digit for digit" in said


def test_runs_without_predictions_are_said_to_be_as_stated():
    plan = made.study(**SMALL)
    made_bundle(plan)
    for spec in plan.runs()[:2]:
        (Path("runs") / spec.id / "predictions.npz").unlink()
    assert "note    2 runs without predictions: what they scored is as stated" in remarks(
        submitted(plan, Path("runs"), Path("fewer.zip"))
    )


def test_a_plan_that_was_changed_is_no_declared_one(capsys):
    made_bundle(made.study(**SMALL))
    changed = made.study(**SMALL, margin=2.0).save(Path("made.yaml"))
    assert submit(changed, "runs", Path("changed.zip")) == 0
    assert "no plan is declared in it: margin changed from 1 to 2" in capsys.readouterr().out
    assert verify(Path("changed.zip")) == 0
    assert "not one that was declared before the first run: margin changed from 1 to 2" in capsys.readouterr().out


def test_a_store_without_done_runs_has_no_bundle():
    made.study(**SMALL).save(Path("made.yaml"))
    with pytest.raises(StoreProblem, match="no run is done yet"):
        submit(Path("made.yaml"), "runs")


def test_the_loss_of_half_precision_logits_lies_within_its_bounds():
    content = members(made_bundle(made.study(**SMALL)))
    for name in (name for name in content if name.endswith("record.json")):
        record = json.loads(content[name])
        arrays = dict(made.np.load(Path("runs") / record["id"] / "predictions.npz"))
        low, high = loss_between(arrays["logits"], arrays["labels"])
        assert low <= record["test"]["loss"] <= high < low + 0.01


# Runs trained again


@pytest.mark.slow
def test_a_run_is_trained_again_to_the_same_bits(attnbench, data_dir):
    Path("tiny.yaml").write_text(
        f"name: tiny\nbase: {json.dumps({k: v for k, v in TINY.items()})}\ngrid: {{attention: [none, se]}}\nseeds: 1\n"
    )
    done = attnbench("study", "tiny.yaml", "--data-dir", data_dir, "--tracker", "none")
    assert done.returncode == 0, done.stderr
    assert submit(Path("tiny.yaml"), "runs", Path("tiny.zip")) == 0
    shutil.rmtree("runs")
    again = attnbench("verify", "tiny.zip", "--retrain", "any", "--data-dir", data_dir)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "trained again: identical" in again.stdout
    run = RunSpec(**TINY, attention="se").id
    other = forged(members(Path("tiny.zip")), f"{run}/record.json", lambda r: r.update(weights_sha256="0" * 64))
    apart = attnbench("verify", other, "--retrain", run[:6], "--data-dir", data_dir)
    assert apart.returncode == 1, apart.stdout + apart.stderr
    assert f"FAILED  run {run} trained again: different" in apart.stdout


def test_a_run_that_is_not_there_cannot_be_trained_again(capsys):
    bundle = made_bundle(made.study(**SMALL))
    with pytest.raises(StoreProblem, match="--retrain ffff: 0 runs"):
        verify(bundle, "ffff")


# A folder of bundles


def ranked(said: str) -> list[list[str]]:
    """The cells of all rows of Markdown tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("| ")]


def test_bundles_stand_beside_each_other_cell_by_cell(capsys):
    Path("folder").mkdir()
    one = made_bundle(made.study(**SMALL), Path("one"), Path("folder/one.zip"))
    grid = {"dataset": ["digits", "fashionmnist"], "attention": ["none", "cbam"]}
    made_bundle(made.study("other", **{**SMALL, "grid": grid}), Path("two"), Path("folder/two.zip"))
    shutil.copy(one, "folder/same.zip")
    packed(signed({**members(one), first(members(one), "record.json"): b"{}"}), Path("folder/bad.zip"))
    Path("folder/none.zip").write_text("no bundle")
    capsys.readouterr()
    assert leaderboard(Path("folder")) == 0
    said = capsys.readouterr().out
    digits = [row[:3] for row in ranked(said.split("## digits, resnet20")[1].split("##")[0])[1:]]
    assert sorted(digits) == [
        ["cbam", "two.zip", "3"], ["none", "one.zip", "3"], ["none", "two.zip", "3"], ["se", "one.zip", "3"],
    ]  # fmt: skip
    refused = said.split("## Not ranked")[1]
    assert "same.zip: holds the same as one.zip" in refused
    assert "none.zip: is no zip file" in refused
    assert "bad.zip: run" in refused
    assert "bad.zip" not in said.split("## Not ranked")[0]
    assert Path("reports/leaderboard/leaderboard.md").read_text() + "\n" == said[: said.index("written:")]


def test_the_page_escapes_what_strangers_wrote_and_asks_for_nothing(capsys):
    Path("folder").mkdir()
    made_bundle(made.study("<b>mine", **SMALL), Path("runs"), Path("folder/<img src=x>|.zip"))
    Path("folder/<i>.zip").write_text("no bundle")
    assert leaderboard(Path("folder"), Path("out")) == 0
    html, text = (Path("out") / name for name in ("index.html", "leaderboard.md"))
    tags = {element.tag for element in made.tree(html.read_text()).iter()}
    assert not tags & {"img", "b", "i"}
    assert "src=" not in html.read_text().replace("src=x", "")
    assert "default-src 'none'" in html.read_text()
    assert "<img" not in text.read_text()
    assert "&lt;img src=x>\\|.zip" in text.read_text()


def test_a_folder_without_bundles_is_told():
    with pytest.raises(StoreProblem, match="no bundle"):
        leaderboard(Path())
