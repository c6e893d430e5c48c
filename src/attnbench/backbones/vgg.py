"""VGG with batch norm for small images: stages of 3x3 convolutions, each closed by max pooling; no shortcuts."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.backbones import Backbone, backbone
from attnbench.maps import mean

VGG_BN = Backbone(
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    year=2015,
    url="https://arxiv.org/abs/1409.1556",
    sites={
        "block": r"layer(?P<stage>\d+)\.bn\d+",
        "stage": r"layer(?P<stage>\d+)",
        "conv": r"layer(?P<stage>\d+)\.conv\d+",
    },
    image_size=32,
)
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@backbone("vgg", VGG_BN)
def vgg(classes: int, in_channels: int, depth: Literal[11, 13, 16, 19] = 16) -> nn.Module:
    """VGG-BN whose three hidden linear layers are left out, as is usual at 32 px; `block` is each batch norm."""
    return VGG(DEPTHS[depth], classes, in_channels)


class VGG(nn.Module):
    """Five stages, global average pooling and one linear classifier; torchvision's initialisation.

    Pooling rounds up, so that small maps never vanish; at sides that 32 divides this changes nothing.
    """

    def __init__(self, depths: tuple[int, ...], classes: int, in_channels: int) -> None:
        super().__init__()
        self.stages = [f"layer{number}" for number in range(1, len(depths) + 1)]
        channels = in_channels
        for name, depth, width in zip(self.stages, depths, (64, 128, 256, 512, 512), strict=True):
            self.add_module(name, _Stage(channels, width, depth))
            channels = width
        self.fc = nn.Linear(channels, classes)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return self.fc(mean(x, (2, 3)))


class _Stage(nn.Module):
    """Convolutions with batch norm and ReLU, then max pooling."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        for number in range(1, depth + 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, width, 3, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))
            channels = width
        self.pool = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"conv{number}")(x)
            x = F.relu(self.get_submodule(f"bn{number}")(x))
        return self.pool(x)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)
