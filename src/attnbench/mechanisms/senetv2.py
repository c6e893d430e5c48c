"""SENetV2: the hidden layer of squeeze-and-excitation in several branches side by side."""

import torch
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="SENetV2: Aggregated dense layer for channelwise and global representations",
    authors="Mahendran Narayanan",
    venue="arXiv",
    year=2023,
    url="https://arxiv.org/abs/2311.10807",
    gate=(0.0, 1.0),
    parameters="branches * C * h + branches * h * C",
    where={"h": "reduced(C, reduction)"},
    deviations="As equation 4 has it. The author's layer has a bias in each branch and in the last layer, and adds its "
    "input to what it gates.",
    clamping="At least one hidden channel in each branch.",
)


@attention("senetv2", PAPER)
class AggregatedSE(nn.Module):
    """Gate each channel by one layer over several hidden layers of the averaged channels (eq. 4)."""

    def __init__(self, channels: int, branches: int = 4, reduction: int = 32) -> None:
        super().__init__()
        if branches < 1:
            raise ValueError(f"branches={branches} must be at least 1")
        hidden = reduced(channels, reduction)
        self.branches = nn.ModuleList(nn.Linear(channels, hidden, bias=False) for _ in range(branches))
        self.excite = nn.Linear(branches * hidden, channels, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        pooled = mean(x, (2, 3))
        hidden = torch.cat([branch(pooled).relu() for branch in self.branches], dim=1)
        return self.excite(hidden).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
