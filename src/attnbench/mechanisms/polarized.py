"""Polarized self-attention: one axis is collapsed entirely, the other kept at half its size."""

from typing import Literal

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Polarized Self-Attention: Towards High-quality Pixel-wise Regression",
    authors="Huajun Liu and Fuqiang Liu and Xinyi Fan and Dong Huang",
    venue="arXiv",
    year=2021,
    url="https://arxiv.org/abs/2107.00782",
    gate=(0.0, 2.0),
    parameters="C + 2 * C * h + 2 * C + 2 * C * h",
    where={"h": "reduced(C, 2)"},
    deviations="Both arrangements of the paper; with the sequential one the factor is at most 1. No convolution has a "
    "bias.",
    clamping="At least one inner channel.",
)


@attention("polarized", PAPER)
class Polarized(nn.Module):
    """Gate channels by a softmax over positions and positions by a softmax over channels (eq. 1-5)."""

    def __init__(self, channels: int, arrangement: Literal["parallel", "sequential"] = "parallel") -> None:
        super().__init__()
        inner, self.parallel = reduced(channels, 2), arrangement == "parallel"
        self.channel_query = nn.Conv2d(channels, 1, 1, bias=False)
        self.channel_value = nn.Conv2d(channels, inner, 1, bias=False)
        self.channel_out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.LayerNorm(channels)
        self.spatial_query = nn.Conv2d(channels, inner, 1, bias=False)
        self.spatial_value = nn.Conv2d(channels, inner, 1, bias=False)

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
        which = self.spatial_query(x).mean((2, 3)).softmax(1).unsqueeze(1)  # B 1 C/2
        logits = which @ self.spatial_value(x).flatten(2)  # B 1 N
        return logits.sigmoid().reshape(len(x), 1, *x.shape[2:])
