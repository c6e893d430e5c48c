"""Efficient local attention: strip averages, a 1-D convolution and a group norm along each axis."""

import torch
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="ELA: Efficient Local Attention for Deep Convolutional Neural Networks",
    authors="Wei Xu and Yi Wan",
    venue="arXiv",
    year=2024,
    url="https://arxiv.org/abs/2403.01123",
    gate=(0.0, 1.0),
    parameters="C * kernel * C // divisor(C, groups or C) + 2 * C",
    deviations="The paper names four sizes by kernel, groups of the convolution and groups of the norm: T (5, C, 32), "
    "B (7, C, 16), S (5, C/8, 16) and L (7, C/8, 16); the default here is B, `groups=0` meaning C. One convolution and "
    "one norm serve both axes, as in the paper's listing.",
    clamping="As many groups of the norm as the channels allow, at most `norm_groups`.",
)


@attention("ela", PAPER)
class ELA(nn.Module):
    """Gate each position by its row's and its column's gate, each from a 1-D convolution of averages (eq. 3-8)."""

    def __init__(self, channels: int, kernel: int = 7, groups: int = 0, norm_groups: int = 16) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        groups = divisor(channels, groups or channels)
        self.mix = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.GroupNorm(divisor(channels, norm_groups), channels)

    def gate(self, x: Tensor) -> Tensor:
        """The product of both gates, B C H W, in (0, 1)."""
        rows, columns = (self._normed(self.mix(mean(x, axis))).sigmoid() for axis in (3, 2))
        return rows.unsqueeze(3) * columns.unsqueeze(2)

    def _normed(self, strip: Tensor) -> Tensor:
        """The group norm of B C L; its module refuses a single value per group, of which the norm is its bias."""
        norm = self.norm
        return torch.group_norm(strip, norm.num_groups, norm.weight, norm.bias, norm.eps)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
