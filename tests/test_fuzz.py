"""Whatever a file holds, its reader gives a value or one message of ours, soon, and does nothing else."""

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

from attnbench import Study
from attnbench.errors import BadScores, BadStudy
from attnbench.store.scores import read

NAMES = [
    *("study", "reference", "record", "journal", "study journal", "view", "predictions", "weights"),
    *("checkpoint", "cache", "cache array", "image folder", "scores", "tar", "zip"),
]
EACH = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The command that fuzzes, which this imports for good: its readers are the same in every test."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("fuzz")


def test_every_reader_is_fuzzed(fuzz):
    assert [*fuzz.READERS] == NAMES


@EACH
def test_nearly_right_files_are_read_or_refused(fuzz, name):
    assert fuzz.fuzzed(name, 60)["inputs"] >= 60


def test_predictions_that_are_refused_count_as_refused(fuzz):
    assert fuzz.fuzzed("predictions", 60)["message"] > 0


@pytest.mark.slow
@EACH
def test_many_nearly_right_files_are_read_or_refused(fuzz, name):
    assert fuzz.fuzzed(name, 2000)["inputs"] >= 2000


def _write_outside(file: Path) -> None:
    Path("evil").write_text("")


def _import(file: Path) -> None:
    sys.modules.pop("this", None)
    importlib.import_module("this")


def _unpickle(file: Path) -> None:
    import pickle

    pickle.loads(b"cbuiltins\nlen\n.")


def _begin(file: Path) -> None:
    import os

    os.system("true")


def _raise(file: Path) -> None:
    raise KeyError("planted")


@pytest.mark.parametrize("planted", [_write_outside, _unpickle, _begin, _raise])
def test_a_reader_that_does_anything_else_is_found(fuzz, planted: Callable[[Path], None]):
    """The fuzzer can tell: each of these would pass unnoticed if it looked at exceptions only."""
    reader = fuzz.Reader("a.txt", lambda: [b"valid"], planted)
    with pytest.raises((AssertionError, KeyError)):
        fuzz.tried(reader, Path("home").resolve(), b"valid")


def test_a_reader_that_imports_is_found(fuzz):
    with pytest.raises(AssertionError, match="this"):
        fuzz.tried(fuzz.Reader("a.txt", lambda: [b""], _import), Path("home").resolve(), b"x")


def test_a_reader_that_hangs_is_found(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    with pytest.raises(fuzz.Hang):
        fuzz.tried(fuzz.Reader("a.txt", lambda: [b""], lambda _: time.sleep(60)), Path("home").resolve(), b"x")


# What it found, each as small as hypothesis made it


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 100_000, "{a: " * 50_000, "? " * 50_000])
def test_brackets_without_end_take_no_time(text):
    Path("deep.yaml").write_text(text)
    with pytest.raises(BadStudy, match="nested too deeply"):
        Study.load("deep.yaml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seeds: 1000000000", "1,000,000,000 runs; a study has at most 60,000"),
        ("looks: [2, 1000000000]", "1,000,000,000 runs; a study has at most 60,000"),
        (f"grid: {{epochs: {[*range(1, 2000)]}, batch_size: {[*range(1, 2000)]}}}", "3,996,001 combinations"),
    ],
)
def test_a_study_that_nobody_could_write_out_is_refused(line, said):
    Path("large.yaml").write_text(f"name: large\nbase: {{dataset: digits}}\n{line}\n")
    with pytest.raises(BadStudy, match=said):
        Study.load("large.yaml")


@pytest.mark.parametrize("seed", ["9" * 5000, "9" * 400 + ".0"])
def test_a_seed_of_too_many_digits_is_refused(seed):
    Path("scores.csv").write_text(f"arm,seed,score\nnone,{seed},1\n")
    with pytest.raises(BadScores, match="is not a whole number of at most 15 digits"):
        read("scores.csv").scores()


def test_an_image_that_claims_to_be_huge_is_refused_before_it_is_decoded():
    from PIL import Image

    from attnbench import RunSpec
    from attnbench.data.splits import load_splits
    from attnbench.errors import DataProblem

    for name in ("a", "b"):
        Path("images", name).mkdir(parents=True)
        for number in range(3):
            Image.new("1", (8, 8)).save(f"images/{name}/{number}.tiff")
    content = Path("images/a/0.tiff").read_bytes()
    height = b"\x01\x01\x04\x00\x01\x00\x00\x00\x08\x00\x00\x00"
    assert content.count(height) == 1
    Path("images/a/0.tiff").write_bytes(content.replace(height, height[:-1] + b"\x01"))
    with pytest.raises(DataProblem, match="too large: 8 x 16,777,224 pixels"):
        load_splits(RunSpec(dataset='imagefolder(path="images")', image_size=8), ".")


def test_a_file_without_end_is_no_study():
    with pytest.raises(BadStudy, match="more than"):
        Study.load("/dev/zero")
