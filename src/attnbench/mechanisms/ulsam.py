"""Ultra-lightweight subspace attention: each group of channels has one map that sums to 1 over the positions."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="ULSAM: Ultra-Lightweight Subspace Attention Module for Compact Convolutional Neural Networks",
    authors="Rajat Saini and Nandan Kumar Jha and Bedanta Das and Sparsh Mittal and C. Krishna Mohan",
    venue="WACV",
    year=2020,
    url="https://arxiv.org/abs/2006.15102",
    parameters="2 * C + (2 * C + 2 * g) * (variant == 'official')",
    where={"g": "divisor(C, groups)"},
    inert={"depthwise.0.weight": "a batch norm behind it takes away all but its sign (official)"},
    deviations="The equations have no more than the two convolutions. The released code has a batch norm, of momentum "
    '0.9, and a ReLU behind both (variant="official"). Of a weight of the depthwise 1x1 convolution the batch norm '
    "behind it keeps the sign alone; the biases of both convolutions, which the norms take away, are left out.",
    clamping="As many subspaces as the channels allow, at most `groups`.",
    version=2,
)


@attention("ulsam", PAPER)
class SubspaceAttention(nn.Module):
    """Multiply each group of channels by 1 plus one softmax over the positions (eq. 3-5)."""

    def __init__(self, channels: int, groups: int = 4, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        groups, official = divisor(channels, groups), variant == "official"
        depthwise = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.depthwise = nn.Sequential(depthwise, *_normed(channels)) if official else depthwise
        self.point = nn.Conv2d(channels, groups, 1, groups=groups, bias=False)
        self.behind = _normed(groups) if official else nn.Identity()

    def gate(self, x: Tensor) -> Tensor:
        """The factor of every group's channels, B C H W, in (1, 2)."""
        logits = self.behind(self.point(F.max_pool2d(self.depthwise(x), 3, 1, 1)))  # B G H W
        weights = logits.flatten(2).softmax(2).reshape(logits.shape)
        return 1 + weights.repeat_interleave(x.shape[1] // logits.shape[1], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def _normed(width: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(width, momentum=0.9), nn.ReLU())
