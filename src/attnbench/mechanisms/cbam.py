"""Convolutional block attention: a channel gate, then a spatial gate."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.maps import amax, gated, mean, plane_conv, planes, pointwise
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="CBAM: Convolutional Block Attention Module",
    authors="Sanghyun Woo and Jongchan Park and Joon-Young Lee and In So Kweon",
    venue="ECCV",
    year=2018,
    url="https://arxiv.org/abs/1807.06521",
    gate=(0.0, 1.0),
    parameters="2*C*h + 2*kernel**2 + (h + C + 2) * (variant == 'official')",
    where={"h": "reduced(C, reduction)"},
    synonyms={"variant": {"classic": "paper"}},
    deviations="The equations have neither biases nor a batch norm. The released code has biases in the MLP and a "
    "batch norm after the spatial convolution whose weight starts at 0, so that the spatial gate starts at 0.5 "
    '(variant="official").',
    clamping="At least one hidden channel.",
)


@attention("cbam", PAPER)
class CBAM(nn.Module):
    """Gate channels by an MLP over their mean and maximum, then positions by a convolution over theirs (eq. 1-3)."""

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        kernel: int = 7,
        variant: Literal["paper", "official", "classic"] = "paper",
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        self.ca = _ChannelGate(channels, reduced(channels, reduction), bias=variant == "official")
        self.sa = _SpatialGate(kernel, norm=variant == "official")

    def gate(self, x: Tensor) -> Tensor:
        """The product of both gates, B C H W, in (0, 1)."""
        channel = self.ca(x)
        return channel * self.sa(x, channel)

    def forward(self, x: Tensor) -> Tensor:
        channel = self.ca(x)
        return gated(x, channel, self.sa(x, channel))


class _ChannelGate(nn.Module):
    """Eq. 2: the shared MLP, as 1x1 convolutions, over average and maximum."""

    def __init__(self, channels: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=bias), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        enter, relu, leave = self.fc
        both = torch.cat([mean(x, (2, 3), keepdim=True), amax(x, (2, 3), keepdim=True)])  # 2B C 1 1
        average, maximum = pointwise(leave, relu(pointwise(enter, both))).unflatten(0, (2, -1)).unbind()
        return (average + maximum).sigmoid()  # B C 1 1


class _SpatialGate(nn.Module):
    """Eq. 3: a convolution over the channels' average and maximum."""

    def __init__(self, kernel: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()
        if isinstance(self.norm, nn.BatchNorm2d):
            nn.init.zeros_(self.norm.weight)  # as released: the gate starts at 0.5 everywhere

    def forward(self, x: Tensor, channel: Tensor) -> Tensor:
        return self.norm(plane_conv(self.conv1, planes(x, channel))).sigmoid()  # B 1 H W
