"""DenseNet-BC: each layer adds `growth` channels to all that came before it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.backbones import Backbone, backbone
from attnbench.maps import mean

DENSE = Backbone(
    title="Densely Connected Convolutional Networks",
    year=2017,
    url="https://arxiv.org/abs/1608.06993",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.conv2",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.bn1",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[12]",
    },
    image_size=32,
)


@backbone("densenet", DENSE)
def densenet(classes: int, in_channels: int, depth: int = 100, growth: int = 12) -> nn.Module:
    """DenseNet-BC for 32 px images: three dense blocks; a stage is a dense block before its transition."""
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth={depth} must be 6n + 4: 10, 16, 22, 28, 34, 40 ...")
    if growth < 1:
        raise ValueError(f"growth={growth} must be at least 1")
    return DenseNet((depth - 4) // 6, growth, classes, in_channels)


class DenseNet(nn.Module):
    """A stem, three dense blocks with halving transitions between them, a last norm and a linear classifier.

    He initialisation (fan-in) and a classifier without initial bias, as in torchvision.
    """

    def __init__(self, depth: int, growth: int, classes: int, in_channels: int) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        for stage in (1, 2, 3):
            layers = [_Layer(channels + position * growth, growth) for position in range(depth)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            channels += depth * growth
            if stage < 3:
                self.add_module(f"transition{stage}", _transition(channels, channels // 2))
                channels //= 2
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for name in ("layer1", "transition1", "layer2", "transition2", "layer3"):
            x = self.get_submodule(name)(x)
        return self.fc(mean(F.relu(self.bn(x)), (2, 3)))


class _Layer(nn.Module):
    """Norm, ReLU, 1x1 to four times the growth, norm, ReLU, 3x3; its maps are put behind those it was given."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([x, out], 1)


def _transition(channels: int, width: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, 1, bias=False)
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), conv, nn.AvgPool2d(2))


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
