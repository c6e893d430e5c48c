"""`attnbench choose` at work on tiny images: what it trains, reads and writes, and that it may be killed anywhere."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HANG, TINY, wait_for

from attnbench.cli import main
from attnbench.spec.study import Study
from attnbench.store.runs import RunRecord, Store
from attnbench.store.studies import StudyJournal

SCREENED, TESTED = 4 + 3, 2 * 4
"""Runs of the choice below: of its two rungs, and of two arms with four seeds each."""
CHOICE: dict[str, Any] = {
    "name": "tiny",
    "base": {**TINY, "train_limit": 64},
    "grid": {"attention": ["se", "eca", "constant(value=0)"]},
    "budget": {"runs": 15},
    "limits": {"parameters": 1.5},
    "confirm": 1,
    "screening": {"epochs": 1, "eta": 1.8},
    "margin": 30.0,
}
Called = Callable[..., tuple[int, str]]


def write_choice(folder: Path, **changed: Any) -> Path:
    file = folder / "choice.json"  # JSON is YAML
    file.write_text(json.dumps({**CHOICE, **changed}))
    return file


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], data_dir: Path) -> Called:
    """Run the command line in this process; its exit code and everything that it says."""

    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments), "--tracker", "none", "--data-dir", str(data_dir)])
        code = ended.value.code
        return int(code or 0), "".join(capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory, attnbench: Any, data_dir: Path) -> tuple[Path, str]:
    """A folder with a choice that nothing disturbed, and what it said."""
    home = tmp_path_factory.mktemp("chosen")
    done = attnbench("choose", write_choice(home), *flags(home, data_dir), "--out", home / "out")
    assert done.returncode == 0, done.stderr
    return home, done.stdout


def flags(home: Path, data_dir: Path) -> list[object]:
    return ["--tracker", "none", "--data-dir", data_dir, "--store", home / "runs", "--jobs", 2]


def essence(record: RunRecord) -> tuple[str, str, float]:
    return record.id, record.weights_sha256, record.score


def advice(said: str) -> list[str]:
    """What is advised and found, without what was measured anew."""
    return [
        line for line in said.splitlines() if re.match(r"rung \d+: .* go on|look at|none: |se: |eca: |constant", line)
    ]


@pytest.mark.slow
def test_screening_reads_no_test_image_and_confirmation_has_fresh_seeds(chosen):
    home, _ = chosen
    records = Store(home / "runs").records()
    first, second = ([r for r in records if r.scored == which] for which in ("val", "test"))
    assert (len(first), len(second)) == (SCREENED, TESTED)
    assert not {r.spec["seed"] for r in first} & {r.spec["seed"] for r in second}
    for record in first:
        read = [line for line in Store(home / "runs").journal(record.id) if line["event"] == "test"]
        assert not record.test
        assert not read


@pytest.mark.slow
def test_the_answer_is_a_page_a_text_and_an_ordinary_study(chosen, said):
    home, told = chosen
    page, text = (home / "out" / "index.html").read_text(), (home / "out" / "choice.md").read_text()
    (line,) = [line for line in told.splitlines() if line.startswith(("none: ", "se: ", "eca: ", "constant"))]
    assert line.replace("[", "\\[").replace("]", "\\]") in text
    assert "screening had promised" in line
    assert "May be the best of the confirmed arms" in told
    assert all(each in page for each in ("promises", "Screening, rung 2", "Limits", "confirmation/index.html"))
    study = Study.load(home / "out" / "confirmation.yaml")
    assert len(study.runs()) == TESTED
    assert StudyJournal(Store(home / "runs"), study.slug).changes(study) == []
    with pytest.raises(SystemExit) as ended:
        main(["report", str(home / "out" / "confirmation.yaml"), "--store", str(home / "runs")])
    assert not ended.value.code


@pytest.mark.slow
def test_a_choice_that_is_done_is_told_again_without_training(chosen, attnbench, data_dir):
    home, told = chosen
    before = {file: file.stat().st_mtime_ns for file in (home / "runs").glob("*/record.json")}
    again = attnbench("choose", write_choice(home), *flags(home, data_dir), "--out", home / "out")
    assert again.returncode == 0, again.stderr
    assert advice(again.stdout) == advice(told)
    assert {file: file.stat().st_mtime_ns for file in (home / "runs").glob("*/record.json")} == before


@pytest.mark.slow
def test_killed_at_every_stage_it_goes_on_to_the_same_answer(chosen, tmp_path, data_dir):
    home, told = chosen
    runs = tmp_path / "runs"
    command = ["choose", write_choice(tmp_path), *flags(tmp_path, data_dir), "--out", tmp_path / "out"]

    def stage(wanted: Callable[[], object]) -> None:
        """Start, wait for a moment, and kill it as nothing can be caught."""
        process = subprocess.Popen(
            [sys.executable, "-m", "attnbench", *map(str, command)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ),
        )
        wait_for(lambda: wanted() or process.poll() is not None)
        process.kill()
        process.wait(HANG)
        assert process.returncode in (-signal.SIGKILL, 0)

    def done() -> int:
        return len(list(runs.glob("*/record.json")))

    def written() -> bool:
        return (tmp_path / "out" / "choice.md").exists()

    stage(lambda: list((runs / "studies").glob("*before*")))
    for moment in (1, SCREENED - 1, SCREENED, SCREENED + 1, SCREENED + TESTED - 1):
        stage(lambda moment=moment: done() >= moment)
    stage(written)
    last = subprocess.run(
        [sys.executable, "-m", "attnbench", *map(str, command)], capture_output=True, text=True, timeout=HANG
    )
    assert last.returncode == 0, last.stderr
    assert advice(last.stdout) == advice(told)
    stores = [Store(folder / "runs").records() for folder in (home, tmp_path)]
    assert [essence(record) for record in stores[1]] == [essence(record) for record in stores[0]]
    for record in stores[1]:
        events = [line["event"] for line in Store(runs).journal(record.id)]
        assert events.count("done") == 1


def test_a_dry_run_says_the_plan_and_trains_nothing(said, tmp_path):
    code, text = said("choose", write_choice(tmp_path, budget={"cpu_hours": 2}), "--dry-run")
    assert code == 0, text
    assert "rung 1: 3 mechanisms, 1 epoch, 1 seed; 2 go on" in text
    assert re.search(r"verdicts at [\d, ]+ seeds an arm, at most [\d.]+ CPU-hours", text)
    assert re.search(r"in all at most about [\d.]+ CPU-hours of the 2.00 CPU-hours", text)
    assert not list(Path("runs").glob("*/record.json"))


def test_a_budget_that_is_too_small_is_refused_before_it_is_spent(said, tmp_path):
    code, text = said("choose", write_choice(tmp_path, budget={"runs": 12}))
    assert code == 2
    assert text.count("\n") == 1, text
    assert "attnbench: budget: of 12 runs 5 are left after screening, enough for 2 seeds of 2 arms" in text
    assert not list(Path("runs").glob("*/record.json"))


def test_mechanisms_beyond_the_limits_are_named_and_not_trained(said, tmp_path):
    code, text = said("choose", write_choice(tmp_path, limits={"parameters": 1.001}, budget={"runs": 30}), "--dry-run")
    assert code == 0, text
    assert "1 of 3 mechanisms are within the limits (parameters x1.001)" in text
    assert re.search(r"left out: se: parameters x1.\d+, the limit is x1.001", text)
    assert "no screening" in text
    code, text = said("choose", write_choice(tmp_path, limits={"parameters": 0.5}), "--dry-run")
    assert code == 2
    assert "limits: no mechanism is within them" in text


def test_limits_and_mechanisms_may_change_between_two_measurements(said, tmp_path):
    both, one = {"latency": 1000, "training": 1000}, {"latency": 1000}
    for arms, limits in ((["se"], both), (["se", "eca"], one), (["se", "eca"], one), (["se", "eca"], both)):
        file = write_choice(tmp_path, grid={"attention": arms}, limits=limits, budget={"runs": 30})
        code, text = said("choose", file, "--dry-run")
        assert code == 0, text


@pytest.mark.slow
def test_a_mechanism_that_breaks_is_the_last_of_its_rung_and_is_not_tried_again(said, tmp_path, monkeypatch):
    Path("broken.py").write_text(
        "from torch import nn\n"
        "class Broken(nn.Module):\n"
        "    def __init__(self, channels):\n"
        "        super().__init__()\n"
        "    def forward(self, x):\n"
        "        return x if len(x) < 3 else x * float('nan')\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    file = write_choice(tmp_path, grid={"attention": ["broken:Broken", "se"]}, limits={}, screening={"epochs": 1})
    for _ in range(2):
        code, text = said("choose", file, "--jobs", 2)
        assert code == 0, text
        assert re.search(r"rung 1: se [+-][\d.]+ points", text)
    (failed,) = [record for record in Store("runs").records() if not record.done]
    assert failed.spec["attention"] == "broken:Broken"
    assert [line["event"] for line in Store("runs").journal(failed.id)].count("start") == 1
    shutil.rmtree("runs")
