"""The plain network widened until it costs what a mechanism costs: what the same cost buys without attention."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from attnbench.catalogue.registry import BACKBONES
from attnbench.errors import BadReference
from attnbench.examine.bench import BenchSettings
from attnbench.examine.profiling import bench_network
from attnbench.networks.cost import cost
from attnbench.networks.network import network

Measure = Literal["params", "macs"]
Widths = tuple[int, ...]
_COUNTED = {"params": "parameters", "macs": "macs"}


@dataclass(frozen=True)
class Match:
    """A plain backbone, and what it costs relative to the network with the mechanism."""

    backbone: str
    wanted: int
    found: int

    @property
    def ratio(self) -> float:
        """1 is a perfect match."""
        return self.found / self.wanted


def match(attention: str, measure: Measure, bench: BenchSettings) -> Match:
    """Widen the bench's backbone evenly, then by single channels, until it costs what it costs with `attention`.

    Raises:
        BadReference: the backbone has no option `widths`, or the mechanism is unknown.
    """
    backbone = BACKBONES.resolve(bench.backbone)
    if "widths" not in backbone.entry.defaults:
        raise BadReference(f"backbone {bench.backbone!r} has no option 'widths' to match with; resnet20 has")
    start: Widths = backbone.settings["widths"]

    def named(widths: Widths) -> str:
        return str(dataclasses.replace(backbone, options={**backbone.options, "widths": widths}))

    def counted(widths: Widths) -> int:
        with torch.device("meta"):
            plain = network(named(widths), "none", bench.classes, image_size=bench.side)
        return cost(plain, (3, bench.side, bench.side))[_COUNTED[measure]]

    wanted = cost(bench_network(bench, attention), (3, bench.side, bench.side))[_COUNTED[measure]]
    widths = _refined(_evenly(start, wanted, counted), wanted, counted)
    return Match(named(widths), wanted, counted(widths))


def _evenly(start: Widths, wanted: int, counted: Callable[[Widths], int]) -> Widths:
    """The widths scaled by one factor, found by bisection."""

    def scaled(factor: float) -> Widths:
        return tuple(max(1, round(width * factor)) for width in start)

    low, high = 0.1, 1.0
    while counted(scaled(high)) < wanted:
        high *= 1.5
    while scaled(low) != scaled(high) and high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if counted(scaled(middle)) < wanted else (low, middle)
    return min((scaled(low), scaled(high)), key=lambda widths: abs(counted(widths) - wanted))


def _refined(widths: Widths, wanted: int, counted: Callable[[Widths], int]) -> Widths:
    """One channel more or less in one stage at a time, as long as that comes nearer."""
    while True:
        near = [
            (*widths[:place], widths[place] + step, *widths[place + 1 :])
            for place in range(len(widths))
            for step in (-1, 1)
            if widths[place] + step > 0
        ]
        best = min([widths, *near], key=lambda each: abs(counted(each) - wanted))
        if best == widths:
            return widths
        widths = best
