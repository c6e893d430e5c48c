"""Compositions: several mechanisms at one place, one after the other or side by side."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, Size, attention, build_attention

CHAIN = Paper(
    title="Mechanisms one after the other",
    deviations="A composition is no mechanism of its own: it is as good as the papers of its parts.",
)
PARALLEL = Paper(
    title="Mechanisms side by side",
    deviations="A composition is no mechanism of its own. The mean keeps the scale of its parts, the maximum is how "
    "scSE joins its two gates.",
)


def built(parts: tuple[str, ...], channels: int, size: Size | None) -> nn.ModuleList:
    """The mechanisms that these references ask for, drawn one after the other."""
    return nn.ModuleList(build_attention(part, channels, size) for part in parts)


@attention("chain", CHAIN)
class Chain(nn.Module):
    """Apply mechanisms one after the other, each to the output of the one before."""

    def __init__(self, channels: int, parts: tuple[str, ...], size: Size | None = None) -> None:
        super().__init__()
        self.parts = built(parts, channels, size)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


@attention("parallel", PARALLEL)
class Parallel(nn.Module):
    """Apply mechanisms to the same input; the output is the mean of theirs, or the maximum at each position."""

    def __init__(
        self,
        channels: int,
        parts: tuple[str, ...],
        join: Literal["mean", "max"] = "mean",
        size: Size | None = None,
    ) -> None:
        super().__init__()
        self.parts, self.join = built(parts, channels, size), join

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (part(x) for part in self.parts)
        for other in others:
            first = torch.maximum(first, other) if self.join == "max" else first + other
        return first if self.join == "max" else first / len(self.parts)
