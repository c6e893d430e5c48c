"""MobileNetV2: inverted residual blocks, wide inside and narrow outside, with depthwise convolutions."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.backbones import Backbone, backbone
from attnbench.maps import mean

MOBILE = Backbone(
    title="MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    year=2018,
    url="https://arxiv.org/abs/1801.04381",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.bn3",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.(?:conv1|(?<=layer1\.0\.)conv2)",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "identity": r"layer(?P<stage>\d+)\.\d+\.downsample",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[123]",
    },
    image_size=224,
)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, width, number of blocks and first stride: the paper's table 2."""


@backbone("mobilenet_v2", MOBILE)
def mobilenet_v2(
    classes: int, in_channels: int, stem: Literal["imagenet", "cifar"] = "imagenet", width: float = 1.0
) -> nn.Module:
    """MobileNetV2 with all widths times `width`; `stem="cifar"` leaves out the first two strides, for 32 px."""
    if not 0 < width < float("inf"):
        raise ValueError(f"width={width} must be above 0")
    return MobileNetV2(classes, in_channels, stem == "cifar", width)


class MobileNetV2(nn.Module):
    """A stem, seven stages of inverted residual blocks, a 1x1 convolution, dropout and a linear classifier.

    torchvision's initialisation. Only blocks that keep the shape have a shortcut, their module `downsample`;
    the first block does not expand, so that it has no `conv1`.
    """

    def __init__(self, classes: int, in_channels: int, small: bool, width: float) -> None:
        super().__init__()
        channels, last = _eighths(32 * width), _eighths(1280 * max(1.0, width))
        self.conv1 = _conv(in_channels, channels, 3, 1 if small else 2)
        self.bn1 = nn.BatchNorm2d(channels)
        self.stages = [f"layer{number}" for number in range(1, len(STAGES) + 1)]
        for name, (expansion, out, depth, first) in zip(self.stages, STAGES, strict=True):
            stride = 1 if small and name == "layer2" else first
            blocks = nn.Sequential()
            for position in range(depth):
                blocks.append(_Block(channels, _eighths(out * width), stride if position == 0 else 1, expansion))
                channels = _eighths(out * width)
            self.add_module(name, blocks)
        self.conv2 = _conv(channels, last, 1)
        self.bn2 = nn.BatchNorm2d(last)
        self.fc = nn.Linear(last, classes)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        x = mean(F.relu6(self.bn2(self.conv2(x))), (2, 3))
        return self.fc(F.dropout(x, 0.2, self.training))


class _Block(nn.Module):
    """1x1 to `expansion` times the width, depthwise 3x3, 1x1 without activation; a shortcut where shapes agree."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expands, self.has_shortcut = expansion > 1, stride == 1 and channels == width
        if self.expands:
            self.conv1 = _conv(channels, wide, 1)
            self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = _conv(wide, wide, 3, stride, groups=wide)
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv3 = _conv(wide, width, 1)
        self.bn3 = nn.BatchNorm2d(width)
        if self.has_shortcut:
            self.downsample = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu6(self.bn1(self.conv1(x))) if self.expands else x
        out = F.relu6(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return out + self.downsample(x) if self.has_shortcut else out


def _conv(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)


def _eighths(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and never more than a tenth below `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)
