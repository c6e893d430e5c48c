"""ParNet's block: a 1x1 and a 3x3 convolution beside a skip connection with a squeeze-and-excitation gate."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Non-deep Networks",
    authors="Ankit Goyal and Alexey Bochkovskiy and Jia Deng and Vladlen Koltun",
    venue="NeurIPS",
    year=2022,
    url="https://arxiv.org/abs/2110.07641",
    parameters="C * C + 2 * C + 9 * C * C + 2 * C + C * C + C + C * (variant == 'official')",
    deviations="The skip connection is gated as it is. The released code, as RepVGG, has a batch norm on it, whose "
    'output is gated and gives the gate, and no bias in the layer of the gate (variant="official").',
)


@attention("parnet", PAPER)
class ParNet(nn.Module):
    """Sum a 1x1 convolution, a 3x3 convolution and the gated input, then SiLU (section 3.1)."""

    def __init__(self, channels: int, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        self.point = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.local = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.excite = nn.Conv2d(channels, channels, 1, bias=variant == "paper")
        self.norm = nn.BatchNorm2d(channels) if variant == "official" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        skip = self.norm(x)
        gated = skip * self.excite(mean(skip, (2, 3), keepdim=True)).sigmoid()
        return F.silu(self.point(x) + self.local(x) + gated)
