"""ParNet's block: a 1x1 and a 3x3 convolution beside a skip connection with a squeeze-and-excitation gate."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Non-deep Networks",
    authors="Ankit Goyal and Alexey Bochkovskiy and Jia Deng and Vladlen Koltun",
    venue="NeurIPS",
    year=2022,
    url="https://arxiv.org/abs/2110.07641",
    parameters="C * C + 2 * C + 9 * C * C + 2 * C + C * C + C",
    deviations="The skip connection is gated as it is, without a batch norm of its own.",
)


@attention("parnet", PAPER)
class ParNet(nn.Module):
    """Sum a 1x1 convolution, a 3x3 convolution and the gated input, then SiLU (section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.point = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.local = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.excite = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = x * self.excite(x.mean((2, 3), keepdim=True)).sigmoid()
        return F.silu(self.point(x) + self.local(x) + skip)
