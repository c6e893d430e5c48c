"""Figures of things measured in turn, so that what else the machine does falls on all of them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attnbench.examine.profiling import interleaved


class Ratio(NamedTuple):
    """The median of some figures, with their quartiles."""

    value: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class Row:
    """One figure beside its goal."""

    goal: str
    what: str
    wanted: float | None
    """None where no goal was set."""
    more: bool
    """Whether more is better."""
    value: float
    low: float
    high: float
    rounds: int
    comparable: bool = True
    """Whether another machine would find about the same: a ratio, and not seconds."""

    @property
    def outcome(self) -> str:
        """Whether the median reaches the goal."""
        if self.wanted is None:
            return ""
        return "reached" if (self.value >= self.wanted if self.more else self.value <= self.wanted) else "missed"


class Paired:
    """CPU seconds of several things, taken in turn in every round."""

    def __init__(
        self, things: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
    ) -> None:
        self.seconds = interleaved(things, rounds, clock)

    def ratio(self, one: str, other: str) -> Ratio:
        """Seconds of one over seconds of the other, round by round."""
        return spread([a / b for a, b in zip(self.seconds[one], self.seconds[other], strict=True)])


def spread(values: list[float]) -> Ratio:
    """Median and quartiles."""
    low, value, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Ratio(value, low, high, len(values))
