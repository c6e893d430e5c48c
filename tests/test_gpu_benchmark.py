"""`make gpu`: it ends quickly where there is no CUDA device, loses nothing that it found, and measures what it says."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import HANG, ROOT

TINY = {"backbone": "resnet20(widths=(4, 8, 8))", "batch": 8, "side": 16, "steps": 2, "device": "cpu"}


@pytest.fixture
def part(monkeypatch, tmp_path):
    """A module of benchmarks/, by its name, with a data folder of its own."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("ATTNBENCH_DATA_DIR", str(tmp_path / "data"))
    return importlib.import_module


def test_without_a_device_it_ends_and_says_what_it_left_out(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--out", tmp_path / "out"]
    command += ["--data", tmp_path / "nowhere"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=HANG)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["skipped"] == [
        f"no folder {tmp_path / 'nowhere'}: G4 trains on noise, and G5 is left out",
        "torch sees no CUDA device here: no test of a GPU, and none of G1 to G7",
    ]
    assert all(said in (tmp_path / "out" / "report.md").read_text() for said in found["skipped"])


def test_results_of_tests_that_were_cut_off_are_passed_over(part, tmp_path):
    (tmp_path / "tests.xml").write_text('<testsuites><testsuite name="pytest"><testcase na')
    assert part("gpu").failed_tests({"out": str(tmp_path), "tests": "their time was over"}) == []


def test_both_lists_of_parts_are_one(part):
    figures, gpu = part("gpu_figures"), part("gpu")
    assert list(figures.PARTS) == list(gpu.SECONDS)


def test_steps_of_ours_of_a_plain_loop_and_of_timm_are_compared(part):
    figures, bench = part("gpu_figures"), part("gpu_steps").Bench(**TINY)
    found = list(figures.steps(bench, 100))
    assert [each for each in found if isinstance(each, figures.Failed)] == []
    assert {(row.goal, row.wanted) for row in found} == {("G1", None), ("G1", 1.0), ("G3", 1.05), ("G3", 1.15)}


def test_what_fails_is_told_with_its_traceback_and_the_rest_is_measured(part):
    figures: ModuleType = part("gpu_figures")

    def broken() -> None:
        raise RuntimeError("no kernel for this")

    failed, paired = figures.measured({"bad": lambda: broken, "good": lambda: lambda: None}, 0.0, "cpu")
    assert "no kernel for this" in failed.trace
    assert list(paired.seconds) == ["good"]


def test_a_report_has_figures_failures_and_what_was_left_out(part, tmp_path):
    gpu, figures = part("gpu"), part("gpu_figures")
    lines = [
        figures.as_json("steps", each) for each in (figures._once("G1", "images/s", 5.0), figures.Failed("x", "Bad: y"))
    ]
    device = {"name": "Card", "torch": "2.11", "cuda": "13"}
    about = {"date": "today", "python": "3.12", "cores": 8, "missing": [], "nvidia_smi": [], "device": device}
    text = gpu.report({**about, "tests": "", "seconds": 1.0, "skipped": ["study: no time was left"], "figures": lines})
    assert "| G1 | images/s |  | 5.000 | 5.000 to 5.000 |  |" in text
    assert "- FAILED steps: x: Bad: y" in text
    assert "- not measured: study: no time was left" in text


def test_a_part_whose_time_is_over_is_ended(part, tmp_path: Path):
    ended = part("gpu").ended([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, tmp_path / "log", 4.0)
    assert ended.code is None
    assert "KeyboardInterrupt" in (tmp_path / "log").read_text()
