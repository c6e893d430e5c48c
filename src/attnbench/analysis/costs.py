"""What arms cost, with intervals, and which of them are worth their cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.stats import Estimate, gap
from attnbench.store.runs import RunRecord

CLOCKS = {
    "cpu": "CPU seconds of training",
    "device": "seconds of training on the device",
    "wall": "seconds of training by the clock on the wall, which counts other load too: some records have no CPU time",
}
"""How training was timed -> how that is said."""


@dataclass(frozen=True)
class Cost:
    """What an arm costs; ratios are to the baseline."""

    arm: str
    parameters: int
    macs: int
    seconds: float
    """Geometric mean over seeds of the training time; nan where it was not measured."""
    parameters_ratio: float
    macs_ratio: float
    seconds_ratio: Estimate
    """Ratio of the geometric means, with the 95 % interval that Welch's has for log seconds."""
    accuracy: float
    on_front: bool | None
    """Whether no other arm is credibly at least as accurate and credibly cheaper; None for a control."""


def clock(cell: Cell) -> str:
    """The one clock that all runs of a cell were timed by: `cpu`, `device`, or `wall` where some know no other."""
    found = {record.clock for arm in cell.arms for record in arm.records}
    return found.pop() if len(found) == 1 else "wall"


def costs(cell: Cell) -> list[Cost]:
    """Parameters, multiply-accumulates and training time of each arm, the baseline first; none without records."""
    if not cell.recorded:
        return []
    which = clock(cell)
    arms = [arm for arm in cell.arms if arm.records]
    logs = [_log_seconds(arm.records, which) for arm in arms]
    at = arms[0].records[0].cost
    return [
        Cost(
            arm=arm.name,
            parameters=arm.records[0].cost["parameters"],
            macs=arm.records[0].cost["macs"],
            seconds=math.exp(taken.mean()),
            parameters_ratio=arm.records[0].cost["parameters"] / at["parameters"],
            macs_ratio=arm.records[0].cost["macs"] / at["macs"],
            seconds_ratio=_ratio(taken, logs[0]) if place else Estimate(1.0, 1.0, 1.0, len(taken)),
            accuracy=arm.score.mean,
            on_front=_on_front(place, arms, logs),
        )
        for place, (arm, taken) in enumerate(zip(arms, logs, strict=True))
    ]


def _log_seconds(records: Sequence[RunRecord], which: str) -> np.ndarray:
    seconds = [record.wall_seconds if which == "wall" else record.train_seconds for record in records]
    return np.log([value if value > 0 else math.nan for value in seconds])


def _ratio(one: np.ndarray, two: np.ndarray) -> Estimate:
    found = gap(one, two)
    return Estimate(math.exp(found.mean), math.exp(found.low), math.exp(found.high), found.n)


def _on_front(place: int, arms: Sequence[Arm], logs: Sequence[np.ndarray]) -> bool | None:
    arm = arms[place]
    if arm.control:
        return None
    for other, taken in zip(arms, logs, strict=True):
        if other is arm or other.control:
            continue
        better, cheaper = gap(other.values, arm.values), gap(taken, logs[place])
        if better.low >= 0 and cheaper.high < 0:
            return False
    return True
