"""Attention augmented convolution: some channels by a convolution, the rest by self-attention over the whole map."""

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, Size, attention, divisor, reduced
from attnbench.mechanisms.bot import RelativePositions

PAPER = Paper(
    title="Attention Augmented Convolutional Networks",
    authors="Irwan Bello and Barret Zoph and Ashish Vaswani and Jonathon Shlens and Quoc V. Le",
    venue="ICCV",
    year=2019,
    url="https://arxiv.org/abs/1904.09925",
    kind="R",
    paper_site="conv",
    paper_stages=(-3, -2, -1),
    parameters="9 * C * (C - a) + (C - a) + C * 3 * a + 3 * a + a * a + a + (2 * H + 2 * W - 2) * a // k",
    positions="all of the map is attended to by relative position, and what lies around a place differs",
    where={"a": "reduced(C, reduction)", "k": "divisor(a, heads)"},
    deviations="Keys are as wide as values (kappa = upsilon = 1 / `reduction`).",
    clamping="As many heads as the attended channels allow, at most `heads`. On maps of another size than it was built "
    "for, the tables of relative positions are interpolated.",
)


@attention("aa", PAPER)
class AugmentedConv(nn.Module):
    """Put a convolution's channels beside those of self-attention with relative positions (eq. 1-6)."""

    def __init__(self, channels: int, reduction: int = 4, heads: int = 8, size: Size | None = None) -> None:
        super().__init__()
        attended = reduced(channels, reduction)
        self.heads = divisor(attended, heads)
        self.conv = nn.Conv2d(channels, channels - attended, 3, padding=1)
        self.qkv = nn.Conv2d(channels, 3 * attended, 1)
        self.out = nn.Conv2d(attended, attended, 1)
        self.positions = RelativePositions(attended // self.heads, size or (14, 14))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).reshape(x.shape[0], 3, self.heads, -1, x.shape[2] * x.shape[3]).unbind(1)
        query = query.transpose(2, 3)  # B h N c
        logits = (query @ key + self.positions(query, (x.shape[2], x.shape[3]))) / query.shape[3] ** 0.5
        attended = (value @ logits.softmax(3).transpose(2, 3)).reshape(x.shape[0], -1, *x.shape[2:])
        return torch.cat([self.conv(x), self.out(attended)], dim=1)
