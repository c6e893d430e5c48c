"""Normalisation-based attention: a batch norm's own scales say which channels matter."""

from typing import Literal

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="NAM: Normalization-based Attention Module",
    authors="Yichao Liu and Zongru Shao and Yueyang Teng and Nico Hoffmann",
    venue="NeurIPS Workshop ImageNet PPF",
    year=2021,
    url="https://arxiv.org/abs/2111.12419",
    paper_site="block",
    gate=(0.0, 1.0),
    parameters="2 * C",
    deviations="The channel module alone, as in the current released code; an earlier commit had the spatial one. The "
    "equation divides each scale by the sum of all; the released code takes their absolute values and lets no "
    'gradient through this weight (variant="official"). The paper\'s sparsity penalty on the scales belongs to the '
    "training loss and is not applied here.",
)


@attention("nam", PAPER)
class NAM(nn.Module):
    """Gate the features by their batch norm, weighted by each channel's share of the norm's scales (eq. 1-2)."""

    def __init__(self, channels: int, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        self.official = variant == "official"
        self.norm = nn.BatchNorm2d(channels)

    def gate(self, x: Tensor) -> Tensor:
        """The gate of every value, B C H W, in (0, 1)."""
        scales = self.norm.weight.detach().abs() if self.official else self.norm.weight
        shares = scales / scales.sum()
        return (self.norm(x) * shares[:, None, None]).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
