"""Self-calibrated convolution: half of the channels are gated by what a coarser copy of them sees."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Improving Convolutional Networks with Self-Calibrated Convolutions",
    authors="Jiang-Jiang Liu and Qibin Hou and Ming-Ming Cheng and Changhu Wang and Jiashi Feng",
    venue="CVPR",
    year=2020,
    url="https://mmcheng.net/scconv/",
    kind="R",
    paper_site="conv",
    parameters="3 * (9 * a * a + 2 * a) + 9 * (C - a)**2",
    where={"a": "C // 2"},
    deviations="A batch norm behind each convolution of the calibrated half, as released; the equations have none. The "
    "coarse map is enlarged to the nearest neighbour.",
    clamping="The pooling window is at most as large as the map.",
)


@attention("scconv", PAPER)
class SelfCalibratedConv(nn.Module):
    """Convolve half of the channels plainly; gate the convolved other half by its pooled, convolved self (eq. 2-6)."""

    def __init__(self, channels: int, pooling: int = 4) -> None:
        super().__init__()
        if pooling < 1:
            raise ValueError(f"pooling={pooling} must be at least 1")
        half, self.pooling = channels // 2, pooling
        self.coarse, self.fine, self.after = _conv(half), _conv(half), _conv(half)
        self.plain = nn.Conv2d(channels - half, channels - half, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        calibrated, plain = x.split([x.shape[1] // 2, x.shape[1] - x.shape[1] // 2], dim=1)
        window = min(self.pooling, x.shape[2]), min(self.pooling, x.shape[3])
        coarse = F.interpolate(self.coarse(F.avg_pool2d(calibrated, window, window)), size=x.shape[2:])
        gated = self.fine(calibrated) * (calibrated + coarse).sigmoid()
        return torch.cat([self.after(gated), self.plain(plain)], dim=1)


def _conv(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
