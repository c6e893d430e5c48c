"""Effective squeeze-and-excitation: one fully connected layer without a bottleneck, and a hard sigmoid."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="CenterMask: Real-Time Anchor-Free Instance Segmentation",
    authors="Youngwan Lee and Jongyoul Park",
    venue="CVPR",
    year=2020,
    url="https://arxiv.org/abs/1911.06667",
    gate=(0.0, 1.0),
    parameters="C * C + C",
    deviations="The equations say sigmoid; the released code, and here, is the hard sigmoid relu6(x + 3) / 6.",
)


@attention("ese", PAPER)
class EffectiveSE(nn.Module):
    """Gate each channel by one fully connected layer over the averaged channels (section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in [0, 1]."""
        return F.relu6(self.fc(mean(x, (2, 3), keepdim=True)) + 3) / 6

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
