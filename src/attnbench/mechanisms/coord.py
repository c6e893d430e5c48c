"""Coordinate attention: pool along each axis, and gate rows and columns."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import gated, mean
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Coordinate Attention for Efficient Mobile Network Design",
    authors="Qibin Hou and Daquan Zhou and Jiashi Feng",
    venue="CVPR",
    year=2021,
    url="https://arxiv.org/abs/2103.02907",
    gate=(0.0, 1.0),
    parameters="C*h + h + 2*h + 2 * (h*C + C)",
    where={"h": "reduced(C, reduction, 8)"},
    inert={"squeeze.bias": "a constant in front of a batch norm"},
    deviations="Biases, the floor of 8 hidden channels and the h-swish are those of the released code.",
    clamping="At least 8 hidden channels.",
)


@attention("coord", PAPER)
class CoordinateAttention(nn.Module):
    """Gate each position by its row's and its column's gate, both from averages along the other axis (eq. 4-9)."""

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        hidden = reduced(channels, reduction, 8)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden)
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """The product of both gates, B C H W, in (0, 1)."""
        rows, columns = self._gates(x)
        return rows * columns

    def forward(self, x: Tensor) -> Tensor:
        return gated(x, *self._gates(x))

    def _gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the rows, B C H 1, and of the columns, B C 1 W."""
        height, width = x.shape[2:]
        pooled = torch.cat([mean(x, 3), mean(x, 2)], dim=2).unsqueeze(3)  # B C H+W 1
        mixed = F.hardswish(self.norm(self.squeeze(pooled)))
        rows, columns = mixed.split([height, width], dim=2)
        return self.rows(rows).sigmoid(), self.columns(columns).sigmoid().transpose(2, 3)
