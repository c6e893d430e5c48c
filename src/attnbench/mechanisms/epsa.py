"""Pyramid squeeze attention: kernels of several sizes side by side, weighed against each other channel by channel."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, divisor, reduced

PAPER = Paper(
    title="EPSANet: An Efficient Pyramid Squeeze Attention Block on Convolutional Neural Network",
    authors="Hu Zhang and Keke Zu and Jian Lu and Yuru Zou and Deyu Meng",
    venue="ACCV",
    year=2022,
    url="https://arxiv.org/abs/2105.14447",
    kind="R",
    paper_site="conv",
    parameters="sum(k**2 * C * w // divisor(w, groups[kernels.index(k)]) for k in kernels[:s]) + 2*w*h + h + w",
    where={"s": "divisor(C, len(kernels))", "w": "C // s", "h": "reduced(w, reduction)"},
    deviations="The equations put the scales together from the first to the last. The released code puts each in "
    'front of those before it, so that the largest kernel comes first (variant="official"). One '
    "squeeze-and-excitation with biases serves all scales, as released.",
    clamping="The first kernels only, where their number does not divide the channels. As many equal groups as the "
    "channels of a scale allow, at most `groups`. At least one hidden channel.",
)


@attention("epsa", PAPER)
class PyramidSqueezeAttention(nn.Module):
    """Convolve with a pyramid of kernels and weigh the results by a softmax over their SE weights (section 3.2)."""

    def __init__(
        self,
        channels: int,
        kernels: tuple[int, ...] = (3, 5, 7, 9),
        groups: tuple[int, ...] = (1, 4, 8, 16),
        reduction: int = 16,
        variant: Literal["paper", "official"] = "paper",
    ) -> None:
        super().__init__()
        if not kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels) or len({*kernels}) < len(kernels):
            raise ValueError(f"kernels={kernels} must be different odd numbers")
        if len(groups) != len(kernels):
            raise ValueError(f"groups={groups} must be one number for each of kernels={kernels}")
        scales = divisor(channels, len(kernels))
        width = channels // scales
        hidden = reduced(width, reduction)
        self.split = nn.ModuleList(
            nn.Conv2d(channels, width, kernel, padding=kernel // 2, groups=divisor(width, number), bias=False)
            for kernel, number in zip(kernels[:scales], groups, strict=False)
        )
        self.weigh = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.reverse = variant == "official"

    def forward(self, x: Tensor) -> Tensor:
        scales = torch.stack([conv(x) for conv in self.split], dim=1)  # B S C/S H W
        weights = self.weigh(mean(scales, (3, 4))).sigmoid().softmax(1)  # B S C/S
        weighed = scales * weights[..., None, None]
        return (weighed.flip(1) if self.reverse else weighed).flatten(1, 2)
