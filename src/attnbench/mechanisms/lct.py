"""Linear context transform: averages are normalised within groups of channels, then scaled and shifted each."""

import torch
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="Linear Context Transform Block",
    authors="Dongsheng Ruan and Jun Wen and Nenggan Zheng and Min Zheng",
    venue="AAAI",
    year=2020,
    url="https://arxiv.org/abs/1909.03834",
    gate=(0.0, 1.0),
    parameters="2 * C",
    clamping="As many groups as leave two channels to each, at most `groups`: one channel alone has no deviation.",
)


@attention("lct", PAPER)
class LinearContext(nn.Module):
    """Gate each channel by an affine map of its average, standardised within its group (eq. 1-4)."""

    def __init__(self, channels: int, groups: int = 64) -> None:
        super().__init__()
        self.groups = divisor(channels, min(groups, channels // 2))
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.ones(channels))

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        pooled = mean(x, (2, 3)).reshape(x.shape[0], self.groups, -1)
        centred = pooled - pooled.mean(2, keepdim=True)
        normal = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
        return (self.weight * normal.flatten(1) + self.bias).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
