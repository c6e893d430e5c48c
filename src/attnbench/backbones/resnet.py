"""Residual networks: torchvision's layout for 224 px, He's CIFAR layout, and the classic net in between."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.backbones import Backbone, backbone

BASIC = Backbone(
    title="Deep Residual Learning for Image Recognition",
    year=2016,
    url="https://arxiv.org/abs/1512.03385",
    sites={"block": r"layer(?P<stage>\d)\.\d+\.bn2", "stage": r"layer(?P<stage>\d)"},
    image_size=224,
)
BOTTLENECK = Backbone(
    title="Deep Residual Learning for Image Recognition",
    year=2016,
    url="https://arxiv.org/abs/1512.03385",
    sites={"block": r"layer(?P<stage>\d)\.\d+\.bn3", "stage": r"layer(?P<stage>\d)"},
    image_size=224,
)
CIFAR = Backbone(
    title="Deep Residual Learning for Image Recognition, section 4.2",
    year=2016,
    url="https://arxiv.org/abs/1512.03385",
    sites={"block": r"layer(?P<stage>\d)\.\d+\.bn2", "stage": r"layer(?P<stage>\d)"},
    image_size=32,
)
Stem = Literal["imagenet", "cifar"]


@backbone("resnet18", BASIC)
def resnet18(classes: int, in_channels: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> nn.Module:
    """18 layers of basic blocks; `stem="cifar"` (3x3, stride 1, no pooling) is the classic net."""
    return ResNet(_Basic, (2, 2, 2, 2), (64, 128, 256, 512), classes, in_channels, stem)


@backbone("resnet50", BOTTLENECK)
def resnet50(classes: int, in_channels: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> nn.Module:
    """50 layers of bottleneck blocks with the stride in the 3x3 convolution (v1.5)."""
    return ResNet(_Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), classes, in_channels, stem)


@backbone("resnet20", CIFAR)
def resnet20(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """20 layers for 32 px images, with parameter-free shortcuts (option A)."""
    return ResNet(_Basic, (3, 3, 3), widths, classes, in_channels, "cifar", free_shortcuts=True)


@backbone("resnet56", CIFAR)
def resnet56(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """56 layers for 32 px images, with parameter-free shortcuts (option A)."""
    return ResNet(_Basic, (9, 9, 9), widths, classes, in_channels, "cifar", free_shortcuts=True)


class ResNet(nn.Module):
    """A stem, stages of residual blocks, global average pooling and a linear classifier.

    Module names are torchvision's, so that its weights load; He initialisation (fan-out), as there.
    """

    def __init__(
        self,
        block: "type[_Basic] | type[_Bottleneck]",
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        classes: int,
        in_channels: int,
        stem: Stem,
        free_shortcuts: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) != len(depths) or any(not isinstance(w, int) or w < 1 for w in widths):
            raise ValueError(f"widths={widths} must be {len(depths)} positive whole numbers")
        large = stem == "imagenet"
        kernel, stride = (7, 2) if large else (3, 1)
        self.conv1 = nn.Conv2d(in_channels, widths[0], kernel, stride, kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages = [f"layer{number}" for number in range(1, len(depths) + 1)]
        channels = widths[0]
        for number, (name, depth, width) in enumerate(zip(self.stages, depths, widths, strict=True)):
            blocks = nn.Sequential()
            for position in range(depth):
                step = 2 if number > 0 and position == 0 else 1
                blocks.append(block(channels, width, step, free_shortcuts))
                channels = width * block.expansion
            self.add_module(name, blocks)
        self.fc = nn.Linear(channels, classes)
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return self.fc(x.mean((2, 3)))


class _Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, free_shortcut: bool) -> None:
        super().__init__()
        self.conv1 = _conv(channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(channels, width, stride, free_shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class _Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times the width, and a shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, free_shortcut: bool) -> None:
        super().__init__()
        wide = width * self.expansion
        self.conv1 = _conv(channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, wide, 1)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = _shortcut(channels, wide, stride, free_shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class _PadShortcut(nn.Module):
    """Option A: every second pixel, new channels filled with zeros (or cut off where a stage is narrower)."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.extra))


def _conv(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)


def _shortcut(channels: int, width: int, stride: int, free: bool) -> nn.Module:
    if stride == 1 and channels == width:
        return nn.Identity()
    if free:
        return _PadShortcut(width - channels, stride)
    return nn.Sequential(_conv(channels, width, 1, stride), nn.BatchNorm2d(width))


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
