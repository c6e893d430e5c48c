"""Efficient multi-scale attention: in each group, a 1x1 and a 3x3 branch weigh each other's positions."""

import torch
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="Efficient Multi-Scale Attention Module with Cross-Spatial Learning",
    authors="Daliang Ouyang and Su He and Guozhong Zhang and Mingzhu Luo and Huaiyong Guo and Jian Zhan and "
    "Zhijie Huang",
    venue="ICASSP",
    year=2023,
    url="https://arxiv.org/abs/2305.13563",
    gate=(0.0, 1.0),
    parameters="n * n + n + 9 * n * n + n + 2 * n",
    where={"n": "C // divisor(C, factor)"},
    clamping="As many equal groups as the channels allow, at most `factor`. With one channel to a group the softmax "
    "over its channels is 1.",
)


@attention("ema", PAPER)
class EfficientMultiScale(nn.Module):
    """Gate positions by products of two branches' maps with each other's pooled softmax, group by group (section 3)."""

    def __init__(self, channels: int, factor: int = 32) -> None:
        super().__init__()
        self.groups = divisor(channels, factor)
        width = channels // self.groups
        self.strips = nn.Conv2d(width, width, 1)
        self.norm = nn.GroupNorm(width, width)
        self.local = nn.Conv2d(width, width, 3, padding=1)

    def gate(self, x: Tensor) -> Tensor:
        """Each group's spatial gate for all of its channels, B C H W, in (0, 1)."""
        groups = x.reshape(x.shape[0] * self.groups, -1, *x.shape[2:])  # BG C/G H W
        pooled = torch.cat([mean(groups, 3, keepdim=True), mean(groups, 2, keepdim=True).transpose(2, 3)], dim=2)
        rows, columns = self.strips(pooled).split([x.shape[2], x.shape[3]], dim=2)
        one = self.norm(groups * rows.sigmoid() * columns.transpose(2, 3).sigmoid())
        two = self.local(groups)
        logits = _crossed(one, two) + _crossed(two, one)  # BG 1 HW
        gates = logits.sigmoid().reshape(groups.shape[0], 1, *x.shape[2:])
        return gates.expand_as(groups).reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def _crossed(pooled: Tensor, map_: Tensor) -> Tensor:
    """One branch's channels, pooled and put through a softmax, weigh the other branch's channels."""
    weights = mean(pooled, (2, 3)).softmax(1).unsqueeze(1)  # BG 1 C/G
    return weights @ map_.flatten(2)
