"""Style-based recalibration: each channel's mean and standard deviation decide its gate, channel by channel."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.maps import deviation, mean
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="SRM: A Style-based Recalibration Module for Convolutional Neural Networks",
    authors="HyunJae Lee and Hyo-Eun Kim and Hyeonseob Nam",
    venue="ICCV",
    year=2019,
    url="https://arxiv.org/abs/1903.10829",
    gate=(0.0, 1.0),
    parameters="2 * C + 2 * C",
    deviations="The variance divides by the number of positions in equation 2 and by one less in the released code "
    '(variant="official"); both add 1e-5 to it.',
    clamping="A batch of one image is refused in training, by the batch norm behind the pooling.",
)


@attention("srm", PAPER)
class StyleRecalibration(nn.Module):
    """Gate each channel by two weights on its own mean and deviation, then a batch norm (eq. 1-5)."""

    def __init__(self, channels: int, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        self.less = int(variant == "official")
        self.cfc = nn.Parameter(torch.zeros(channels, 2))  # as released: the gate starts at 1/2
        self.norm = nn.BatchNorm2d(channels)

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        weights = self.cfc[None, :, :, None, None]  # 1 C 2 1 1
        style = weights[:, :, 0] * mean(x, (2, 3), keepdim=True) + weights[:, :, 1] * deviation(x, 1e-5, self.less)
        return self.norm(style).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
