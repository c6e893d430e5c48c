"""A small network for short runs: the least work that still tells mechanisms apart."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.backbones import Backbone, backbone
from attnbench.maps import amax

SPEED = Backbone(
    title="How to Train Your ResNet (Page 2018): three stages of a pooled convolution and a residual one, made narrow",
    year=2018,
    url="https://myrtle.ai/learn/how-to-train-your-resnet/",
    sites={
        "block": r"layer(?P<stage>\d+)\.bn2",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.conv2",
        "post": r"layer(?P<stage>\d+)",
        "conv": r"layer(?P<stage>\d+)\.conv[12]",
    },
    image_size=32,
)


@backbone("speednet", SPEED)
def speednet(
    classes: int,
    in_channels: int,
    widths: tuple[int, ...] = (32, 96, 128),
    stem: int = 24,
    stride: int = 1,
    fixed: bool = True,
) -> nn.Module:
    """A stem, then a stage a width: convolution, pooling, convolution with a shortcut.

    A fixed stem does not learn: a basis of the smoothest patterns, each with both signs, and a batch norm without
    parameters, which together whiten 3 x 3 patches; nothing is computed for its gradient, and a patch has no more
    than 18 such patterns a channel. With `stem` 0 there is none.
    """
    if not widths or any(not isinstance(width, int) or width < 1 for width in widths):
        raise ValueError(f"widths={widths} must be positive whole numbers")
    if stem < 0 or stride < 1:
        raise ValueError(f"stem={stem} must be at least 0, stride={stride} at least 1")
    if fixed and stem % 2:
        raise ValueError(f"stem={stem} must be even: a fixed stem has each pattern with both signs")
    return SpeedNet(*_stem(in_channels, stem, stride, fixed), widths, classes)


class SpeedNet(nn.Module):
    """Stem, stages, global maximum pooling, and a linear classifier."""

    def __init__(self, stem: nn.Module, channels: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        for name, width in zip(self.stages, widths, strict=True):
            self.add_module(name, _Pooled(channels, width))
            channels = width
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return self.fc(amax(x, (2, 3)))


class _Pooled(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(F.max_pool2d(self.conv1(x), 2)))
        return F.relu(x + self.bn2(self.conv2(x)))


def _stem(in_channels: int, width: int, stride: int, fixed: bool) -> tuple[nn.Module, int]:
    """The stem and its channels."""
    if not width:
        return nn.Identity(), in_channels
    patterns = patterns_of(in_channels)[: width // 2]
    channels = 2 * len(patterns) if fixed else width
    conv = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
    if fixed:
        conv.requires_grad_(False).weight.copy_(torch.cat([patterns, -patterns]))
    return nn.Sequential(conv, nn.BatchNorm2d(channels, affine=not fixed), nn.ReLU()), channels


def patterns_of(in_channels: int) -> Tensor:
    """The cosine basis of C x 3 x 3 patches: 9 C patterns of norm 1, the smoothest first (9C C 3 3).

    Near the principal components of natural images' patches (Ahmed et al. 1974), so dividing by the deviations whitens.
    """
    rows, colours = _cosines(3), _cosines(in_channels)
    order = sorted(itertools.product(range(in_channels), range(3), range(3)), key=lambda f: f[0] / 2 + f[1] + f[2])
    return torch.stack([torch.einsum("c,y,x->cyx", colours[c], rows[y], rows[x]) for c, y, x in order])


def _cosines(size: int) -> Tensor:
    """The orthonormal DCT-II, a row for each frequency."""
    steps = torch.arange(size, dtype=torch.float32)
    waves = torch.cos(math.pi * steps[:, None] * (steps + 0.5) / size)
    return waves / waves.norm(dim=1, keepdim=True)
