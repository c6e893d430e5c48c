"""Spatial group-wise enhance: in each group of channels, positions like the group's mean count more."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional Networks",
    authors="Xiang Li and Xiaolin Hu and Jian Yang",
    venue="arXiv",
    year=2019,
    url="https://arxiv.org/abs/1905.09646",
    paper_site="block",
    gate=(0.0, 1.0),
    parameters="2 * divisor(C, groups)",
    deviations="The paper's standard deviation divides by the number of positions m, the released code's by m - 1 "
    '(variant="official"; on a map of one position, where that is 0, by 1).',
    clamping="As many equal groups as the channels allow, at most `groups`. On a map of one position the gate is "
    "sigmoid(bias).",
)


@attention("sge", PAPER)
class SGE(nn.Module):
    """Gate each group's positions by their normalised similarity to the group's mean feature (eq. 1-5)."""

    def __init__(self, channels: int, groups: int = 64, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        groups = divisor(channels, groups)
        self.unbiased = variant == "official"
        self.weight = nn.Parameter(torch.zeros(groups, 1))  # as released: the gate starts at sigmoid(1)
        self.bias = nn.Parameter(torch.ones(groups, 1))

    def gate(self, x: Tensor) -> Tensor:
        """The gate of every group's channels, B C H W, in (0, 1)."""
        features = x.reshape(x.shape[0], len(self.weight), -1, x.shape[2] * x.shape[3])  # B G C/G N
        similarity = (features * features.mean(3, keepdim=True)).sum(2)  # B G N
        spread = similarity.std(2, keepdim=True, correction=int(self.unbiased and features.shape[3] > 1))
        normalised = (similarity - similarity.mean(2, keepdim=True)) / (spread + 1e-5)
        gates = (normalised * self.weight + self.bias).sigmoid()
        return gates[:, :, None].expand_as(features).reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
