"""Residual networks: torchvision's layout for 224 px, He's CIFAR layout, the classic net in between, and ResNeXt."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.backbones import Backbone, backbone
from attnbench.maps import mean

BASIC = Backbone(
    title="Deep Residual Learning for Image Recognition",
    year=2016,
    url="https://arxiv.org/abs/1512.03385",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.bn2",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.conv1",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "identity": r"layer(?P<stage>\d+)\.\d+\.downsample",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[12]",
    },
    image_size=224,
)
BOTTLENECK = Backbone(
    title="Deep Residual Learning for Image Recognition",
    year=2016,
    url="https://arxiv.org/abs/1512.03385",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.bn3",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.conv1",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "identity": r"layer(?P<stage>\d+)\.\d+\.downsample",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[123]",
    },
    image_size=224,
)
CIFAR = Backbone(
    title="Deep Residual Learning for Image Recognition, section 4.2",
    year=2016,
    url="https://arxiv.org/abs/1512.03385",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.bn2",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.conv1",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "identity": r"layer(?P<stage>\d+)\.\d+\.downsample",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[12]",
    },
    image_size=32,
)
RESNEXT = Backbone(
    title="Aggregated Residual Transformations for Deep Neural Networks",
    year=2017,
    url="https://arxiv.org/abs/1611.05431",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.bn3",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.conv1",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "identity": r"layer(?P<stage>\d+)\.\d+\.downsample",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[123]",
    },
    image_size=224,
)
RESNEXT_CIFAR = Backbone(
    title="Aggregated Residual Transformations for Deep Neural Networks, section 5.3",
    year=2017,
    url="https://arxiv.org/abs/1611.05431",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.bn3",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.conv1",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "identity": r"layer(?P<stage>\d+)\.\d+\.downsample",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[123]",
    },
    image_size=32,
)
Stem = Literal["imagenet", "cifar"]


@backbone("resnet18", BASIC)
def resnet18(classes: int, in_channels: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> nn.Module:
    """18 layers of basic blocks; `stem="cifar"` (3x3, stride 1, no pooling) is the classic net."""
    return ResNet(_Basic, (2, 2, 2, 2), (64, 128, 256, 512), classes, in_channels, stem)


@backbone("resnet34", BASIC)
def resnet34(classes: int, in_channels: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> nn.Module:
    """34 layers of basic blocks."""
    return ResNet(_Basic, (3, 4, 6, 3), (64, 128, 256, 512), classes, in_channels, stem)


@backbone("resnet50", BOTTLENECK)
def resnet50(classes: int, in_channels: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> nn.Module:
    """50 layers of bottleneck blocks with the stride in the 3x3 convolution (v1.5)."""
    return ResNet(_Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), classes, in_channels, stem)


@backbone("resnet20", CIFAR)
def resnet20(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """20 layers for 32 px images, with parameter-free shortcuts (option A)."""
    return ResNet(_Basic, (3, 3, 3), widths, classes, in_channels, "cifar", free_shortcuts=True)


@backbone("resnet32", CIFAR)
def resnet32(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """32 layers for 32 px images, with parameter-free shortcuts (option A)."""
    return ResNet(_Basic, (5, 5, 5), widths, classes, in_channels, "cifar", free_shortcuts=True)


@backbone("resnet44", CIFAR)
def resnet44(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """44 layers for 32 px images, with parameter-free shortcuts (option A)."""
    return ResNet(_Basic, (7, 7, 7), widths, classes, in_channels, "cifar", free_shortcuts=True)


@backbone("resnet56", CIFAR)
def resnet56(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """56 layers for 32 px images, with parameter-free shortcuts (option A)."""
    return ResNet(_Basic, (9, 9, 9), widths, classes, in_channels, "cifar", free_shortcuts=True)


@backbone("resnet110", CIFAR)
def resnet110(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """110 layers for 32 px images, with parameter-free shortcuts (option A)."""
    return ResNet(_Basic, (18, 18, 18), widths, classes, in_channels, "cifar", free_shortcuts=True)


@backbone("resnext50", RESNEXT)
def resnext50(classes: int, in_channels: int, stem: Literal["imagenet", "cifar"] = "imagenet") -> nn.Module:
    """50 layers of bottleneck blocks whose 3x3 convolution has 32 groups of 4 channels (32x4d)."""
    return ResNet(_Bottleneck32x4d, (3, 4, 6, 3), (64, 128, 256, 512), classes, in_channels, stem)


@backbone("resnext29", RESNEXT_CIFAR)
def resnext29(classes: int, in_channels: int) -> nn.Module:
    """29 layers for 32 px images, of bottleneck blocks whose 3x3 convolution has 8 groups of 64 channels (8x64d)."""
    return ResNet(_Bottleneck8x64d, (3, 3, 3), (64, 128, 256), classes, in_channels, "cifar")


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
        return self.fc(mean(x, (2, 3)))


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
    groups = 1
    group_width = 64
    """Channels of a group of the 3x3 convolution where `width` is 64; in proportion elsewhere."""

    def __init__(self, channels: int, width: int, stride: int, free_shortcut: bool) -> None:
        super().__init__()
        wide, inner = width * self.expansion, width * self.group_width // 64 * self.groups
        self.conv1 = _conv(channels, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = _conv(inner, inner, 3, stride, self.groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = _conv(inner, wide, 1)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample = _shortcut(channels, wide, stride, free_shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class _Bottleneck32x4d(_Bottleneck):
    """ResNeXt-50's block."""

    groups, group_width = 32, 4


class _Bottleneck8x64d(_Bottleneck):
    """The block of ResNeXt-29 for CIFAR."""

    groups, group_width = 8, 64


class PadShortcut(nn.Module):
    """Option A: every second pixel, new channels filled with zeros (or cut off where a stage is narrower)."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 1, self.stride)  # the gradient of a slice would be NCHW
        return F.pad(x, (0, 0, 0, 0, 0, self.extra))


def _conv(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)


def _shortcut(channels: int, width: int, stride: int, free: bool) -> nn.Module:
    if stride == 1 and channels == width:
        return nn.Identity()
    if free:
        return PadShortcut(width - channels, stride)
    return nn.Sequential(_conv(channels, width, 1, stride), nn.BatchNorm2d(width))


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
