"""Large selective kernels: two depthwise kernels in a row, mixed position by position."""

import torch
from torch import Tensor, nn

from attnbench.maps import amax, mean
from attnbench.mechanisms import Paper, attention, reduced
from attnbench.mechanisms.lka import draw_by_outputs

PAPER = Paper(
    title="Large Selective Kernel Network for Remote Sensing Object Detection",
    authors="Yuxuan Li and Qibin Hou and Zhaohui Zheng and Ming-Ming Cheng and Jian Yang and Xiang Li",
    venue="ICCV",
    year=2023,
    url="https://arxiv.org/abs/2303.09030",
    parameters="25 * C + C + 49 * C + C + 2 * (C*h + h) + 49 * 4 + 2 + h*C + C",
    where={"h": "reduced(C, 2)"},
    deviations="The attention alone, without the projections and the GELU around it. The factor has no bound. "
    "First weights are those of the network's own loop (zcablii/LSKNet at cbe06ca, "
    "mmrotate/models/backbones/lsknet.py), as in large kernel attention: "
    "with torch's, which the class leaves, the factor is nearly 0.",
    clamping="At least one inner channel.",
    version=2,
)


@attention("lsk", PAPER)
class LargeSelectiveKernel(nn.Module):
    """Multiply by two receptive fields' features, mixed at each position by a convolution of their pools (eq. 3-8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = reduced(channels, 2)
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.wide = nn.Conv2d(channels, channels, 7, padding=9, groups=channels, dilation=3)
        self.from_local, self.from_wide = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
        self.select = nn.Conv2d(2, 2, 7, padding=3)
        self.mix = nn.Conv2d(inner, channels, 1)
        draw_by_outputs(self)

    def gate(self, x: Tensor) -> Tensor:
        """The factor, B C H W, without bounds."""
        near = self.local(x)
        fields = self.from_local(near), self.from_wide(self.wide(near))
        both = torch.cat(fields, dim=1)
        pooled = torch.cat([mean(both, 1, keepdim=True), amax(both, 1, keepdim=True)], dim=1)
        first, second = self.select(pooled).sigmoid().split(1, dim=1)
        return self.mix(fields[0] * first + fields[1] * second)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
