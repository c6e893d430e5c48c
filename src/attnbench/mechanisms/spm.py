"""Strip pooling: full 1-D convolutions of row and column averages, mixed, decide each position's gate."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Strip Pooling: Rethinking Spatial Pooling for Scene Parsing",
    authors="Qibin Hou and Li Zhang and Ming-Ming Cheng and Jiashi Feng",
    venue="CVPR",
    year=2020,
    url="https://arxiv.org/abs/2003.13328",
    gate=(0.0, 1.0),
    parameters="2 * (3 * C * C + 2 * C) + C * C + C",
    deviations="The batch norms behind the strips and the ReLU before the last convolution are as released.",
)


@attention("spm", PAPER)
class StripPooling(nn.Module):
    """Gate each position by a 1x1 convolution of its row's and its column's convolved averages (eq. 1-4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rows, self.columns = (
            nn.Sequential(nn.Conv1d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm1d(channels))
            for _ in range(2)
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """The gate, B C H W, in (0, 1)."""
        strips = self.rows(mean(x, 3)).unsqueeze(3) + self.columns(mean(x, 2)).unsqueeze(2)
        return self.mix(F.relu(strips)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
