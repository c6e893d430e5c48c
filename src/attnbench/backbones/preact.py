"""Pre-activation residual networks: norm and ReLU come before each convolution, and the sum is left alone.

The first block of each stage shares its first norm and ReLU with the shortcut, as in the paper's code. The site
`pre` is therefore the first convolution, which is the branch's own in every block.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.backbones import Backbone, backbone
from attnbench.backbones.resnet import PadShortcut
from attnbench.maps import mean

PREACT = Backbone(
    title="Identity Mappings in Deep Residual Networks",
    year=2016,
    url="https://arxiv.org/abs/1603.05027",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.conv2",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.conv1",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "identity": r"layer(?P<stage>\d+)\.\d+\.downsample",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[12]",
    },
    image_size=32,
)


@backbone("preact_resnet18", PREACT)
def preact_resnet18(classes: int, in_channels: int) -> nn.Module:
    """18 layers of pre-activation blocks behind a 3x3 stem: the classic net, pre-activated."""
    return PreactResNet((2, 2, 2, 2), (64, 128, 256, 512), classes, in_channels)


@backbone("preact_resnet20", PREACT)
def preact_resnet20(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """20 layers of pre-activation blocks for 32 px images, with parameter-free shortcuts (option A)."""
    return PreactResNet((3, 3, 3), widths, classes, in_channels, free_shortcuts=True)


@backbone("preact_resnet56", PREACT)
def preact_resnet56(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """56 layers of pre-activation blocks for 32 px images, with parameter-free shortcuts (option A)."""
    return PreactResNet((9, 9, 9), widths, classes, in_channels, free_shortcuts=True)


@backbone("preact_resnet110", PREACT)
def preact_resnet110(classes: int, in_channels: int, widths: tuple[int, ...] = (16, 32, 64)) -> nn.Module:
    """110 layers of pre-activation blocks for 32 px images, with parameter-free shortcuts (option A)."""
    return PreactResNet((18, 18, 18), widths, classes, in_channels, free_shortcuts=True)


class PreactResNet(nn.Module):
    """A 3x3 stem, stages of pre-activation blocks, a last norm and ReLU, average pooling and a linear classifier.

    He initialisation (fan-out) and a classifier without initial bias, as in the paper's code. The
    stem is as wide as the first stage, or `stem` wide.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        classes: int,
        in_channels: int,
        free_shortcuts: bool = False,
        stem: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) != len(depths) or any(not isinstance(w, int) or w < 1 for w in widths):
            raise ValueError(f"widths={widths} must be {len(depths)} positive whole numbers")
        stem = stem or widths[0]
        self.conv1 = _conv(in_channels, stem, 3)
        self.stages = [f"layer{number}" for number in range(1, len(depths) + 1)]
        channels = stem
        for name, depth, width in zip(self.stages, depths, widths, strict=True):
            blocks = nn.Sequential()
            for position in range(depth):
                stride = 2 if name != "layer1" and position == 0 else 1
                shortcut = _shortcut(channels, width, stride, free_shortcuts)
                blocks.append(_Block(channels, width, stride, shortcut, position == 0, dropout))
                channels = width
            self.add_module(name, blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return self.fc(mean(F.relu(self.bn(x)), (2, 3)))


class _Block(nn.Module):
    """Norm, ReLU, 3x3, norm, ReLU, dropout, 3x3, and a shortcut from before or (`shared`) after the first ReLU."""

    def __init__(
        self, channels: int, width: int, stride: int, shortcut: nn.Module, shared: bool, dropout: float
    ) -> None:
        super().__init__()
        self.shared, self.dropout = shared, dropout
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = _conv(channels, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out = F.relu(self.bn2(self.conv1(active)))
        if self.dropout:
            out = F.dropout(out, self.dropout, self.training)
        return self.conv2(out) + self.downsample(active if self.shared else x)


def _conv(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)


def _shortcut(channels: int, width: int, stride: int, free: bool) -> nn.Module:
    if stride == 1 and channels == width:
        return nn.Identity()
    return PadShortcut(width - channels, stride) if free else _conv(channels, width, 1, stride)


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
