"""Self-calibrated convolution: half of the channels are gated by what a coarser map of them says."""

from typing import Literal

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
    parameters="27 * a * a + 9 * b * b + (6*a + 2*b) * (variant == 'official')",
    positions="surroundings are averages of the cells of a fixed grid",
    where={"a": "C // 2", "b": "C - a"},
    deviations="The equations have convolutions only and scale up bilinearly. The released code scales up to the "
    "nearest pixel and has a batch norm behind each convolution and a ReLU behind the last of each half "
    '(variant="official"); there, two 1x1 convolutions in front make the halves, here the channels are split.',
    clamping="The half that is calibrated is the smaller one of an odd number of channels. A map smaller than the "
    "pooling is pooled whole; rows and columns beyond the last whole window are not pooled, as released.",
)


@attention("scconv", PAPER)
class SelfCalibratedConv(nn.Module):
    """Convolve half of the channels, and the others gated by their pooled and convolved surroundings (eq. 1-5)."""

    def __init__(self, channels: int, pooling: int = 4, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        if pooling < 1:
            raise ValueError(f"pooling={pooling} must be at least 1")
        self.calibrated = channels // 2
        self.pooling, self.official = pooling, variant == "official"
        self.k1 = _convolution(channels - self.calibrated, self.official, self.official)
        self.k2 = _convolution(self.calibrated, self.official, False)
        self.k3 = _convolution(self.calibrated, self.official, False)
        self.k4 = _convolution(self.calibrated, self.official, self.official)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x[:, : self.calibrated], x[:, self.calibrated :]
        y1 = self.k4(self.k3(x1) * (x1 + self._surroundings(x1)).sigmoid())
        return torch.cat([y1, self.k1(x2)], dim=1)

    def _surroundings(self, x: Tensor) -> Tensor:
        """Eq. 2 and 3: pooled, convolved, and scaled up to the size of x again."""
        height, width = x.shape[2:]
        low = self.k2(F.avg_pool2d(x, (min(self.pooling, height), min(self.pooling, width))))
        if self.official:
            return F.interpolate(low, (height, width))
        rows, columns = _bilinear(low.shape[2], height, x), _bilinear(low.shape[3], width, x)
        return rows @ low @ columns.T  # F.interpolate has no deterministic gradient on CUDA


def _convolution(channels: int, norm: bool, activation: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, *[nn.BatchNorm2d(channels)] * norm, *[nn.ReLU()] * activation)


def _bilinear(side: int, wanted: int, like: Tensor) -> Tensor:
    """The matrix, wanted x side, that scales a side up linearly between its pixels' centres."""
    pixels = torch.arange(wanted, device=like.device, dtype=torch.float64)
    places = ((pixels + 0.5) * side / wanted - 0.5).clamp(0, side - 1)
    centres = torch.arange(side, device=like.device, dtype=torch.float64)
    return (1 - (places[:, None] - centres).abs()).clamp(min=0).to(like.dtype)
