"""Wide residual networks: pre-activation blocks, fewer layers, more channels."""

from torch import nn

from attnbench.backbones import Backbone, backbone
from attnbench.backbones.preact import PreactResNet

WIDE = Backbone(
    title="Wide Residual Networks",
    year=2016,
    url="https://arxiv.org/abs/1605.07146",
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


@backbone("wrn", WIDE)
def wrn(classes: int, in_channels: int, depth: int = 28, widen: int = 10, dropout: float = 0.0) -> nn.Module:
    """Wide ResNet for 32 px images: WRN-28-10 unless told otherwise; dropout lies between a block's convolutions."""
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth={depth} must be 6n + 4: 10, 16, 22, 28, 34, 40 ...")
    if widen < 1:
        raise ValueError(f"widen={widen} must be at least 1")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
    depths, widths = ((depth - 4) // 6,) * 3, (16 * widen, 32 * widen, 64 * widen)
    return PreactResNet(depths, widths, classes, in_channels, stem=16, dropout=dropout)
