"""Concurrent spatial and channel squeeze-and-excitation, merged by their maximum or their sum."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Recalibrating Fully Convolutional Networks With Spatial and Channel Squeeze and Excitation Blocks",
    authors="Abhijit Guha Roy and Nassir Navab and Christian Wachinger",
    venue="IEEE Transactions on Medical Imaging",
    year=2018,
    url="https://arxiv.org/abs/1808.08127",
    parameters="2*C*h + h + C + C + 1",
    where={"h": "reduced(C, reduction)"},
    deviations="The conference paper (1803.02579) adds the two recalibrated maps, the journal paper takes their "
    "maximum among other ways; biases as in the released code.",
    clamping="At least one hidden channel.",
)


@attention("scse", PAPER)
class SCSE(nn.Module):
    """Recalibrate once by a channel gate and once by a spatial gate, and merge both (eq. 1-4)."""

    def __init__(self, channels: int, reduction: int = 2, merge: Literal["max", "add"] = "max") -> None:
        super().__init__()
        hidden, self.merge = reduced(channels, reduction), merge
        self.channel = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.spatial = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        by_channel = x * self.channel(mean(x, (2, 3), keepdim=True)).sigmoid()
        by_position = x * self.spatial(x).sigmoid()
        return torch.maximum(by_channel, by_position) if self.merge == "max" else by_channel + by_position
