"""Runs beside the shipped records of the same runs: identical, or how far apart, arm by arm; never a failure."""

from pathlib import Path

import handmade
import pytest

from attnbench import compare
from attnbench.report import agreement

BITS = {"weights_sha256": "1" * 64}


@pytest.fixture
def plan() -> Path:
    file = Path("plan.yaml")
    file.write_text(handmade.PLAN)
    handmade.stored(handmade.records())
    return file


def shifted(attention: str, by: list[float], **changed: object) -> list:
    """The records of an arm whose accuracies lie so far from the others' own, with other weights."""
    moved = [accuracy + step for accuracy, step in zip(handmade.ACCURACY[attention], by, strict=True)]
    return [handmade.record(attention, seed, accuracy, **{**BITS, **changed}) for seed, accuracy in enumerate(moved)]


def told(*shipped: list) -> str:
    return agreement(compare(handmade.records()), [record for arm in shipped for record in arm], "there/")


def test_equal_weights_and_accuracies_are_identical():
    assert told(handmade.records()) == "identical to there/: the weights and accuracies of all 15 runs"


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ([0.0] * 5, "se: 0 of 5 runs identical, mean accuracy +0.00 points, within the spread of seeds (1.19)"),
        ([-1.0] * 5, "se: 0 of 5 runs identical, mean accuracy +1.00 points, within the spread of seeds (1.19)"),
        ([1.3] * 5, "se: 0 of 5 runs identical, mean accuracy -1.30 points, OUTSIDE the spread of seeds (1.19)"),
    ],
)
def test_an_arm_that_differs_is_within_or_outside_twice_the_deviation_over_seeds(by, said):
    lines = told(handmade.records("none"), shifted("se", by), handmade.records("cbam")).splitlines()
    assert lines[0] == "not identical to there/:"
    assert [line.strip() for line in lines[1:]] == ["none: all 5 runs identical", "cbam: all 5 runs identical", said]


def test_what_is_known_to_differ_is_named():
    other = {"numerics": {"device": "cpu", "threads": 2}, "data_fingerprint": "x", "environment": {"code": "two"}}
    said = told(handmade.records("none"), shifted("se", [0.0] * 5, **other))
    assert said.startswith("not identical to there/ (other threads, images, package code); 5 more are not there:")


def test_below_three_seeds_no_spread_is_known():
    assert "no spread is known" in told(shifted("se", [0.0] * 5)[:2])


def test_no_shared_run_is_said():
    assert told([]) == "none of these 15 runs is in there/"


@pytest.mark.parametrize("other", ["runs", "elsewhere"])
def test_report_ends_with_it_and_exit_code_0_either_way(plan, attnbench, other):
    handmade.stored(shifted("se", [5.0] * 5), "elsewhere")
    done = attnbench("report", plan, "--compare-with", other)
    assert done.returncode == 0, done.stderr
    last = "identical to runs/" if other == "runs" else "OUTSIDE"
    assert last in done.stdout.splitlines()[-1]


def test_a_folder_that_is_not_there_is_refused_in_one_line(plan, attnbench):
    refused = attnbench("report", plan, "--compare-with", "nowhere")
    assert (refused.returncode, refused.stderr) == (2, "attnbench: --compare-with nowhere: no such folder or bundle\n")
