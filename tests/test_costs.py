"""Costs: CPU seconds where they are known, ratios with intervals, and a Pareto front of what intervals support."""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence

import pytest
from handmade import record

from attnbench import compare
from attnbench.analysis.costs import clock, costs
from attnbench.report.tables import write_csv
from attnbench.store.runs import RunRecord

Arms = Mapping[str, Sequence[tuple[float, float]]]
"""Of each arm: accuracy in percent and CPU seconds of every seed."""


def records(arms: Arms, wall: float = 100.0, device: str = "cpu", cpu: bool = True) -> list[RunRecord]:
    """Runs whose time by the clock says nothing of their CPU time."""
    found = []
    for name, runs in arms.items():
        for seed, (accuracy, seconds) in enumerate(runs):
            curves = [{"epoch": 1, **({"cpu_seconds": seconds / 2} if cpu else {})}] * 2
            changed = {"curves": curves, "timings": {"train": wall / seconds}, "numerics": {"device": device}}
            found.append(record(name, seed, accuracy, **changed))
    return found


def found(arms: Arms, **how):
    (cell,) = compare(records(arms, **how)).cells
    return cell, {cost.arm: cost for cost in costs(cell)}


def near(mean: float, scatter: float, n: int = 5) -> list[float]:
    return [mean + scatter * (place - (n - 1) / 2) for place in range(n)]


def arm(accuracy: float, seconds: float, scatter: float = 0.1) -> list[tuple[float, float]]:
    return list(zip(near(accuracy, scatter), near(seconds, seconds / 100), strict=True))


def test_time_is_cpu_time_on_a_cpu_whatever_the_clock_on_the_wall_said():
    cell, by_arm = found({"none": arm(80, 10), "se": arm(80, 12)})
    assert clock(cell) == "cpu"
    assert by_arm["se"].seconds_ratio.mean == pytest.approx(1.2, rel=1e-9)
    assert 1.1 < by_arm["se"].seconds_ratio.low < 1.2 < by_arm["se"].seconds_ratio.high < 1.3


def test_time_is_the_clocks_on_a_gpu_and_in_records_without_cpu_time():
    for how, name in (({"device": "NVIDIA H100"}, "device"), ({"cpu": False}, "wall")):
        cell, by_arm = found({"none": arm(80, 10), "se": arm(80, 12)}, **how)
        assert clock(cell) == name
        assert by_arm["se"].seconds_ratio.mean == pytest.approx(10 / 12, rel=1e-3)


def test_one_record_without_cpu_time_lets_its_whole_cell_fall_back():
    some = records({"none": arm(80, 10), "se": arm(80, 12)})
    some[-1] = dataclasses.replace(some[-1], curves=[{"epoch": 1}])
    (cell,) = compare(some).cells
    assert clock(cell) == "wall"


def test_one_seed_has_a_ratio_without_an_interval():
    _, by_arm = found({"none": [(80, 10)], "se": [(80, 20)]})
    assert by_arm["se"].seconds_ratio.mean == pytest.approx(2)
    assert math.isnan(by_arm["se"].seconds_ratio.low)
    assert by_arm["se"].on_front


@pytest.mark.parametrize(
    ("se", "on_front"),
    [
        (arm(70, 20), False),  # credibly worse and credibly dearer
        (arm(80, 20), True),  # dearer, but nobody knows that none is at least as accurate
        (arm(70, 10), True),  # worse, and nobody knows that none is cheaper
        (arm(90, 20), True),
    ],
    ids=["worse and dearer", "as accurate and dearer", "worse and as dear", "better and dearer"],
)
def test_an_arm_is_off_the_front_only_if_another_is_credibly_as_accurate_and_credibly_cheaper(se, on_front):
    _, by_arm = found({"none": arm(80, 10), "se": se})
    assert (by_arm["none"].on_front, by_arm["se"].on_front) == (True, on_front)


@pytest.mark.parametrize("control", ["constant", "static", "random"])
def test_controls_are_neither_on_the_front_nor_keep_others_off_it(control):
    _, by_arm = found({"none": arm(80, 10), control: arm(95, 1)})
    assert (by_arm[control].on_front, by_arm["none"].on_front) == (None, True)


def test_the_table_of_runs_has_both_times_under_their_names(tmp_path):
    write_csv(compare(records({"none": arm(80, 10)})), [[]], tmp_path)
    with (tmp_path / "runs.csv").open(newline="") as file:
        row = next(iter(csv.DictReader(file)))
    assert float(row["train_cpu_seconds"]) == pytest.approx(9.8)
    assert float(row["train_wall_seconds"]) == pytest.approx(100 / 9.8)
