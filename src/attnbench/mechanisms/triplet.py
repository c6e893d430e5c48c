"""Triplet attention: three gates, one for each pair of axes, averaged."""

import torch
from torch import Tensor, nn

from attnbench.maps import amax, mean, plane_conv
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Rotate to Attend: Convolutional Triplet Attention Module",
    authors="Diganta Misra and Trikay Nalamada and Ajay Uppili Arasanipalai and Qibin Hou",
    venue="WACV",
    year=2021,
    url="https://arxiv.org/abs/2010.03045",
    gate=(0.0, 1.0),
    parameters="3 * (2 * kernel**2 + 2)",
    deviations="The batch norms start at weight 1, as in the released class. The released ResNet sets that of the "
    "third gate, over positions, to 0, so that this gate starts at 1/2 everywhere.",
)


@attention("triplet", PAPER)
class Triplet(nn.Module):
    """Gate by the mean of three gates, each a convolution of the maximum and the mean along one axis (eq. 1-4)."""

    def __init__(self, channels: int, kernel: int = 7) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        self.branches = nn.ModuleDict({axes: _plane(kernel) for axes in ("cw", "hc", "hw")})

    def gate(self, x: Tensor) -> Tensor:
        """The mean of the three gates, B C H W, in (0, 1)."""
        over_height = self._gate("cw", _pooled(x, 2)).transpose(1, 2)  # B 1 C W -> B C 1 W
        over_width = self._gate("hc", _pooled(x.transpose(2, 3), 2).transpose(2, 3)).permute(0, 3, 2, 1)  # B C H 1
        over_channels = self._gate("hw", _pooled(x, 1))  # B 1 H W
        return (over_height + over_width + over_channels) / 3

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)

    def _gate(self, axes: str, pooled: Tensor) -> Tensor:
        branch = self.branches[axes]
        assert isinstance(branch, nn.Sequential)
        gate: Tensor = branch[1](plane_conv(branch[0], pooled))
        return gate.sigmoid()


def _pooled(x: Tensor, axis: int) -> Tensor:
    """Z-pool: maximum and mean along an axis, as two planes of the other two."""
    return torch.stack([amax(x, axis), mean(x, axis)], dim=1)


def _plane(kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(1, momentum=0.01))
