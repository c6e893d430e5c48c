"""Things measured in turn, so that what else the machine does falls on all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, with their quartiles."""

    value: float
    low: float
    high: float
    rounds: int


class Paired:
    """CPU seconds of several things, taken in turn in every round; the first round is not counted."""

    def __init__(
        self, things: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
    ) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in things}
        for number in range(rounds + 1):
            order = list(things.items())
            for name, thing in order if number % 2 else reversed(order):
                began = clock()
                thing()
                if number:
                    self.seconds[name].append(clock() - began)

    def ratio(self, one: str, other: str) -> Ratio:
        """Seconds of one over seconds of the other, round by round."""
        found = [a / b for a, b in zip(self.seconds[one], self.seconds[other], strict=True)]
        return spread(found)

    def median(self, name: str) -> float:
        """Seconds of a round."""
        return statistics.median(self.seconds[name])


def spread(values: list[float]) -> Ratio:
    """Median and quartiles."""
    low, value, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Ratio(value, low, high, len(values))
