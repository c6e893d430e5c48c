"""Shuffle attention: half of each group of channels gets a channel gate, the other half a spatial gate."""

import torch
from torch import Tensor, nn

from attnbench.maps import laid_out, mean
from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="SA-Net: Shuffle Attention for Deep Convolutional Neural Networks",
    authors="Qing-Long Zhang and Yu-Bin Yang",
    venue="ICASSP",
    year=2021,
    url="https://arxiv.org/abs/2102.00240",
    parameters="6 * n",
    where={"n": "C // 2 // divisor(C // 2, groups)"},
    clamping="As many groups as leave two channels to each, at most `groups` (64 need 128 channels); the number of "
    "channels must be even.",
)


@attention("sa", PAPER)
class ShuffleAttention(nn.Module):
    """Gate half of each group's channels by their averages, half by their normalised values; then shuffle (eq. 1-4)."""

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"channels={channels} must be even, since each group has two halves")
        self.groups = divisor(channels // 2, groups)
        half = channels // 2 // self.groups
        self.channel_weight = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.channel_bias = nn.Parameter(torch.ones(1, half, 1, 1))
        self.spatial_weight = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.spatial_bias = nn.Parameter(torch.ones(1, half, 1, 1))
        self.norm = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        by_channel, by_position = x.reshape(x.shape[0] * self.groups, -1, *x.shape[2:]).chunk(2, dim=1)
        pooled = mean(by_channel, (2, 3), keepdim=True)
        first = by_channel * (self.channel_weight * pooled + self.channel_bias).sigmoid()
        second = by_position * (self.spatial_weight * self.norm(by_position) + self.spatial_bias).sigmoid()
        joined = torch.cat([first, second], dim=1).reshape(x.shape[0], 2, -1, *x.shape[2:])  # B 2 C/2 H W
        return laid_out(joined.transpose(1, 2).reshape(x.shape), x)
