"""Pyramid split attention: four kernel sizes, each with its own channel gate, weighed against each other."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor, reduced

PAPER = Paper(
    title="EPSANet: An Efficient Pyramid Squeeze Attention Block on Convolutional Neural Network",
    authors="Hu Zhang and Keke Zu and Jian Lu and Yuru Zou and Deyu Meng",
    venue="ACCV",
    year=2022,
    url="https://arxiv.org/abs/2105.14447",
    kind="R",
    paper_site="conv",
    parameters="9*C*q + 25*C*q//divisor(q, 4) + 49*C*q//divisor(q, 8) + 81*C*q//divisor(q, 16) + 4 * (2*q*h + h + q)",
    where={"q": "C // 4", "h": "reduced(q, reduction)"},
    deviations="The equations put the parts together in the order of their kernels; the released code in the reverse "
    'order (variant="official"). Biases in the gates as released.',
    clamping="As many equal groups as the channels allow, at most 1, 4, 8 and 16; at least one hidden channel. The "
    "number of channels must be a multiple of 4.",
)


@attention("epsa", PAPER)
class PyramidSplit(nn.Module):
    """Convolve with kernels of 3, 5, 7 and 9 and weigh the parts by a softmax of their channel gates (eq. 1-9)."""

    def __init__(self, channels: int, reduction: int = 16, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        if channels % 4:
            raise ValueError(f"channels={channels} must be a multiple of 4, one part for each kernel")
        part = channels // 4
        hidden, self.reverse = reduced(part, reduction), variant == "official"
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, part, kernel, padding=kernel // 2, groups=divisor(part, groups), bias=False)
            for kernel, groups in ((3, 1), (5, 4), (7, 8), (9, 16))
        )
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Conv2d(part, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, part, 1), nn.Sigmoid())
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = [conv(x) for conv in self.convs]
        gates = [gate(part.mean((2, 3), keepdim=True)) for gate, part in zip(self.gates, parts, strict=True)]
        weighed = torch.stack(parts, dim=1) * torch.stack(gates, dim=1).softmax(1)  # B 4 C/4 H W
        return (weighed.flip(1) if self.reverse else weighed).flatten(1, 2)
