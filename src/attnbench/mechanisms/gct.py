"""Gated channel transformation: channels compete by their norms; the gate starts at exactly 1."""

import torch
from torch import Tensor, nn

from attnbench.maps import narrow, wide
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Gated Channel Transformation for Visual Recognition",
    authors="Zongxin Yang and Linchao Zhu and Yu Wu and Yi Yang",
    venue="CVPR",
    year=2020,
    url="https://arxiv.org/abs/1909.11519",
    paper_site="conv",
    gate=(0.0, 2.0),
    parameters="3 * C",
    no_decay=("beta",),
)


@attention("gct", PAPER)
class GatedChannelTransformation(nn.Module):
    """Gate each channel by 1 + tanh of its norm relative to all channels' norms (eq. 1-5)."""

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))  # as in the paper: starts as identity
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 2)."""
        embedded = self.alpha * (wide(x).square().sum((2, 3), keepdim=True) + self.epsilon).sqrt()
        scale = (embedded.square().mean(1, keepdim=True) + self.epsilon).sqrt()
        return narrow(1 + torch.tanh(self.gamma * embedded / scale + self.beta), x)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
