"""Multidimensional collaborative attention: gates over channels, rows and columns, averaged."""

import math

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="MCA: Multidimensional collaborative attention in deep convolutional neural networks for image recognition",
    authors="Yang Yu and Yi Zhang and Zeyu Cheng and Zhe Song and Chengkai Tang",
    venue="Engineering Applications of Artificial Intelligence",
    year=2023,
    url="https://doi.org/10.1016/j.engappai.2023.107079",
    gate=(0.0, 1.0),
    parameters="k + 2 * kernel + 6",
    where={"t": "round(abs(log2(C) - 1) / 1.5)", "k": "max(1, t - (t + 1) % 2)"},
    deviations="The standard deviation is that of the released code, over n - 1 (over 1 where n is 1).",
    clamping="The channels' kernel follows the width and is at least 1. A standard deviation of one value is 0.",
)


@attention("mca", PAPER)
class MCA(nn.Module):
    """Gate by the mean of three gates, along channels, rows and columns, each from pooled means and deviations."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        nearest = round(abs(math.log2(channels) - 1) / 1.5)
        self.channel = _AxisGate(max(1, nearest if nearest % 2 else nearest - 1))
        self.row, self.column = _AxisGate(kernel), _AxisGate(kernel)

    def gate(self, x: Tensor) -> Tensor:
        """The mean of the three gates, B C H W, in (0, 1)."""
        rows = self.row(x.transpose(1, 2)).transpose(1, 2)  # B 1 H 1
        columns = self.column(x.transpose(1, 3)).transpose(1, 3)  # B 1 1 W
        return (self.channel(x) + rows + columns) / 3

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class _AxisGate(nn.Module):
    """Pool all but the second axis by mean and deviation, mix the two, convolve along the axis."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.rand(2))
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        values = x.flatten(2)  # B L N
        mean, deviation = values.mean(2), values.std(2, correction=int(values.shape[2] > 1))
        share = 0.5 + self.mix.sigmoid()
        pooled = share[0] * mean + share[1] * deviation  # B L
        return self.conv(pooled[:, None]).sigmoid().reshape(*pooled.shape, 1, 1)
