"""Polarized self-attention: one axis is collapsed entirely, the other kept at half its size."""

from typing import Literal

from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Polarized Self-Attention: Towards High-quality Pixel-wise Regression",
    authors="Huajun Liu and Fuqiang Liu and Xinyi Fan and Dong Huang",
    venue="arXiv",
    year=2021,
    url="https://arxiv.org/abs/2107.00782",
    gate=(0.0, 2.0),
    parameters="C + 3*C*h + 2*C * (variant == 'paper') + (1 - b) * C*h + b * (h*m + 3*m + m*C + C)",
    where={
        "h": "reduced(C, 2)",
        "m": "reduced(h, 4)",
        "b": "(variant == 'official') * (arrangement == 'sequential')",
    },
    deviations="Both arrangements of the paper; with the sequential one the factor is at most 1. The released code "
    '(variant="official") takes the spatial softmax over positions instead of over the averaged query\'s channels: in '
    "parallel of the product of query and value, so that the spatial gate stays above 0.5, in sequence of the value. "
    "It has no layer norm in front of the channel sigmoid; in sequence, a bottleneck with a layer norm and biases "
    "stands in place of the last channel convolution.",
    clamping="At least one inner channel, and one in the released bottleneck; a layer norm over one is constant.",
)


@attention("polarized", PAPER)
class Polarized(nn.Module):
    """Gate channels by a softmax over positions and positions by a softmax over channels (eq. 1-5)."""

    def __init__(
        self,
        channels: int,
        arrangement: Literal["parallel", "sequential"] = "parallel",
        variant: Literal["paper", "official"] = "paper",
    ) -> None:
        super().__init__()
        inner, self.parallel, self.official = reduced(channels, 2), arrangement == "parallel", variant == "official"
        self.channel_query = nn.Conv2d(channels, 1, 1, bias=False)
        self.channel_value = nn.Conv2d(channels, inner, 1, bias=False)
        narrow = self.official and not self.parallel
        self.channel_out = _bottleneck(inner, channels) if narrow else nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.Identity() if self.official else nn.LayerNorm(channels)
        self.spatial_query = nn.Conv2d(channels, inner, 1, bias=False)
        self.spatial_value = nn.Conv2d(channels, inner, 1, bias=False)
        if self.official:
            for conv in (self.channel_query, self.channel_value, self.spatial_query, self.spatial_value):
                nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")

    def gate(self, x: Tensor) -> Tensor:
        """The sum (parallel) or the product (sequential) of both gates, B C H W."""
        channel = self._channel(x)
        if self.parallel:
            return channel + self._spatial(x)
        return channel * self._spatial(x * channel)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)

    def _channel(self, x: Tensor) -> Tensor:
        """Equation 1, B C 1 1."""
        where = self.channel_query(x).flatten(2).softmax(2)  # B 1 N
        pooled = self.channel_value(x).flatten(2) @ where.transpose(1, 2)  # B C/2 1
        logits = self.channel_out(pooled.unsqueeze(3)).flatten(1)
        return self.norm(logits).sigmoid()[:, :, None, None]

    def _spatial(self, x: Tensor) -> Tensor:
        """Equation 2, B 1 H W."""
        which = mean(self.spatial_query(x), (2, 3)).unsqueeze(1)  # B 1 C/2
        where = self.spatial_value(x).flatten(2)  # B C/2 N
        if not self.official:
            logits = which.softmax(2) @ where  # B 1 N
        elif self.parallel:
            logits = (which @ where).softmax(2)
        else:
            logits = which @ where.softmax(2)
        return logits.sigmoid().reshape(x.shape[0], 1, *x.shape[2:])


def _bottleneck(inner: int, channels: int) -> nn.Sequential:
    narrow = reduced(inner, 4)
    return nn.Sequential(
        nn.Conv2d(inner, narrow, 1), nn.LayerNorm([narrow, 1, 1]), nn.ReLU(), nn.Conv2d(narrow, channels, 1)
    )
