"""A small network for short runs: the least work that still tells mechanisms apart."""

from collections.abc import Sequence

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
def speednet(classes: int, in_channels: int, widths: tuple[int, ...] = (32, 96, 128), stem: int = 24) -> nn.Module:
    """A convolution, unless `stem` is 0, then a stage a width: convolution, pooling, convolution with a shortcut."""
    if not widths or any(not isinstance(width, int) or width < 1 for width in widths):
        raise ValueError(f"widths={widths} must be positive whole numbers")
    if stem < 0:
        raise ValueError(f"stem={stem} must be at least 0")
    return SpeedNet(widths, stem, classes, in_channels)


class SpeedNet(nn.Module):
    """Stem, stages, global maximum pooling, and a linear classifier."""

    def __init__(self, widths: Sequence[int], stem: int, classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = (
            nn.Sequential(nn.Conv2d(in_channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
            if stem
            else nn.Identity()
        )
        channels = stem or in_channels
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
