"""The way to any other task: two scripts that a person reads in a minute, their scores, and what is said of them."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

import attnbench as package

EXAMPLES = ROOT / "examples"
NAMES = pytest.mark.parametrize("name", ["detector", "segmentation"])


@pytest.fixture
def precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("precision")


@pytest.mark.parametrize("name", ["paired", "detector", "segmentation"])
def test_a_script_has_at_most_60_lines(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 60


@NAMES
def test_the_scores_in_the_docs_are_three_pairs_that_decide_nothing(name):
    found = package.verdict(ROOT / "results" / "elsewhere" / f"{name}.csv", pairing="paired")
    (arm,) = [arm for arm in found.cells[0].arms if arm.contrast]
    assert (arm.contrast.verdict.kind, arm.contrast.difference.n) == ("undecided", 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@NAMES
def test_the_commands_of_the_page_run_as_they_stand(name, attnbench):
    page = (ROOT / "docs" / "elsewhere.md").read_text()
    trained, judged = (
        line for line in "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines() if name in line
    )
    script = re.match(r"python (\S+) (\S+)", trained)
    done = subprocess.run([sys.executable, ROOT / script[1], script[2], "3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(script[2]).read_text().count("\n") == 1 + 2 * 3
    said = attnbench(*judged.split()[1:])
    assert said.returncode == 0, said.stderr
    assert "is undecided" in said.stdout


def boxes(*lefts: float) -> torch.Tensor:
    """Boxes of 10x10 px in a row."""
    return torch.tensor([[left, 0.0, left + 10, 10.0] for left in lefts])


@pytest.mark.parametrize(
    ("scores", "lefts", "area"),
    [
        ([0.9, 0.8], [0, 50], 1.0),
        ([0.9, 0.8], [3, 52], 1.0),  # 7 of 13 px overlap, 8 of 12
        ([0.9, 0.8], [4, 50], 0.25),  # 6 of 14 do not count, and stand before the one that does
        ([0.9, 0.8, 0.7], [0, 1, 50], 0.5 * 1 + 0.5 * 2 / 3),  # the second finds what was found
        ([0.3, 0.9, 0.8], [0, 90, 50], 2 / 3),  # at half the recall the precision is that of the whole
        ([0.9], [50], 0.5),
        ([], [], 0.0),
    ],
)
def test_average_precision_is_what_one_counts_by_hand(precision, scores, lefts, area):
    found = [(torch.tensor(scores), boxes(*lefts).reshape(-1, 4))]
    assert precision.average_precision(found, [boxes(0, 50)]) == pytest.approx(area)


def test_mean_average_precision_knows_images_and_classes_apart(precision):
    truth = [{"boxes": boxes(0), "labels": torch.tensor([1])}, {"boxes": boxes(0), "labels": torch.tensor([2])}]
    right = [{**each, "scores": torch.tensor([0.5])} for each in truth]
    assert precision.mean_average_precision(right, truth) == 100
    assert precision.mean_average_precision(right[::-1], truth) == 0
