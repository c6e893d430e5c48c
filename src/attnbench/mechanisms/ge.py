"""Gather-excite: pool a neighbourhood of every position, then gate the positions by what was gathered."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import avg_pool, mean
from attnbench.mechanisms import Paper, Size, attention, reduced
from attnbench.mechanisms.fca import windows

PAPER = Paper(
    title="Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks",
    authors="Jie Hu and Li Shen and Samuel Albanie and Gang Sun and Andrea Vedaldi",
    venue="NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1810.12348",
    paper_site="block",
    gate=(0.0, 1.0),
    parameters="(theta != 'minus') * (g * C + 2 * n * C) + (theta == 'plus') * (2*C*h + h + C)",
    positions="a convolution of global extent has a weight for every position (theta plain and plus)",
    where={
        "h": "reduced(C, reduction)",
        "n": "max(1, round(log2(max(1, extent))))",
        "g": "H * W if extent == 0 else 9 * n",
    },
    deviations="Only the networks of global extent were released; as in them there are a batch norm behind every "
    "gathering convolution, biases in the MLP alone, and, with the MLP, a ReLU in front of it. Windows at the border "
    "are averaged over the positions that exist.",
    clamping="At least one hidden channel. A global convolution is as large as the map that the module was built for; "
    "maps of another size are averaged to it. With a convolution of global extent a batch of one image is refused in "
    "training, by the batch norm behind it.",
)


@attention("ge", PAPER)
class GatherExcite(nn.Module):
    """Gate each position by its gathered neighbourhood, 2 `extent` - 1 wide or the whole map at 0 (sections 2-3)."""

    def __init__(
        self,
        channels: int,
        extent: int = 0,
        theta: Literal["minus", "plain", "plus"] = "minus",
        reduction: int = 16,
        size: Size | None = None,
    ) -> None:
        super().__init__()
        if extent != 0 and (extent < 2 or extent & (extent - 1)):
            raise ValueError(f"extent={extent} must be 0 (the whole map) or a power of two from 2")
        gathering: nn.Module = _WholeMap(channels, size or (14, 14)) if extent == 0 else _strided(channels, extent)
        self.gather = _Average(extent) if theta == "minus" else gathering
        self.mlp = _mlp(channels, reduced(channels, reduction)) if theta == "plus" else nn.Identity()

    def gate(self, x: Tensor) -> Tensor:
        """The gate, B C H W or B C 1 1, in (0, 1)."""
        gathered = self.mlp(self.gather(x))
        if gathered.shape[2] * gathered.shape[3] > 1:
            gathered = F.interpolate(gathered, size=x.shape[2:], mode="nearest")
        return gathered.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class _Average(nn.Module):
    """Theta-minus: averages, without parameters."""

    def __init__(self, extent: int) -> None:
        super().__init__()
        self.extent = extent

    def forward(self, x: Tensor) -> Tensor:
        if self.extent == 0:
            return mean(x, (2, 3), keepdim=True)
        return avg_pool(x, 2 * self.extent - 1, self.extent, self.extent - 1, count_padding=False)


class _WholeMap(nn.Module):
    """Theta of global extent: one depthwise weight for every position of the map, then a batch norm."""

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, size, groups=channels, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)  # as released
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.conv.weight.shape[2:]
        rows, columns = windows(height, x.shape[2], x), windows(width, x.shape[3], x)
        gathered = torch.einsum("bchw,ih,jw,cij->bc", x, rows, columns, self.conv.weight[:, 0])
        return self.norm(gathered[:, :, None, None])


def _strided(channels: int, extent: int) -> nn.Sequential:
    """Theta of a local extent: log2(extent) depthwise 3x3 convolutions of stride 2, ReLUs in between."""
    layers: list[nn.Module] = []
    for _ in range(int(math.log2(extent))):
        conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
        nn.init.kaiming_normal_(conv.weight)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _mlp(channels: int, hidden: int) -> nn.Sequential:
    """Theta-plus: the excitation of squeeze-and-excitation at every gathered position."""
    down, up = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
    for conv in (down, up):  # as released
        for parameter in conv.parameters():
            nn.init.zeros_(parameter)
        nn.init.normal_(conv.weight, std=0.01)
    return nn.Sequential(nn.ReLU(), down, nn.ReLU(), up)
