"""ConvNeXt: a residual network with 7x7 depthwise convolutions, layer norm and few activations."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.backbones import Backbone, backbone

TINY = Backbone(
    title="A ConvNet for the 2020s",
    year=2022,
    url="https://arxiv.org/abs/2201.03545",
    sites={
        "block": r"layer(?P<stage>\d+)\.\d+\.conv3",
        "stage": r"layer(?P<stage>\d+)",
        "pre": r"layer(?P<stage>\d+)\.\d+\.conv1",
        "post": r"layer(?P<stage>\d+)\.\d+",
        "identity": r"layer(?P<stage>\d+)\.\d+\.downsample",
        "conv": r"layer(?P<stage>\d+)\.\d+\.conv[123]",
    },
    image_size=224,
)


@backbone("convnext_tiny", TINY)
def convnext_tiny(
    classes: int,
    in_channels: int,
    stem: Literal["imagenet", "cifar"] = "imagenet",
    drop_path: float = 0.1,
) -> nn.Module:
    """ConvNeXt-T; its stem cuts the image into patches of 4x4, with `stem="cifar"` of 2x2 pixels.

    Images have at least 32 px, with `stem="cifar"` 16 px. `drop_path` is the last block's share of images whose
    residual branch is left out in training; it rises linearly from 0 in the first block.
    """
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path={drop_path} must be at least 0 and below 1")
    patch = 4 if stem == "imagenet" else 2
    return ConvNeXt((3, 3, 9, 3), (96, 192, 384, 768), classes, in_channels, patch, drop_path)


class ConvNeXt(nn.Module):
    """Patches, stages of blocks with a halving convolution before each but the first, norm, linear classifier.

    torchvision's initialisation. The linear layers inside a block are written as 1x1 convolutions, so that every
    module maps B C H W to B C H W.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        classes: int,
        in_channels: int,
        patch: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(in_channels, widths[0], patch, patch), _Norm(widths[0]))
        rates = [drop_path * position / (sum(depths) - 1) for position in range(sum(depths))]
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            if stage > 1:
                before = widths[stage - 2]
                self.add_module(f"down{stage}", nn.Sequential(_Norm(before), nn.Conv2d(before, width, 2, 2)))
            self.add_module(f"layer{stage}", nn.Sequential(*(_Block(width, rates.pop(0)) for _ in range(depth))))
        self.norm = _Norm(widths[-1])
        self.fc = nn.Linear(widths[-1], classes)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"down{stage}")(x)
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(self.norm(x.mean((2, 3), keepdim=True)).flatten(1))


class _Block(nn.Module):
    """Depthwise 7x7, norm, 1x1 to four times the width, GELU, 1x1 back, a learned scale, and a shortcut.

    The site `block` lies before the scale, which starts at 1e-6: behind it a gate would see nothing.
    """

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.conv1 = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = _Norm(width)
        self.conv2 = nn.Conv2d(width, 4 * width, 1)
        self.conv3 = nn.Conv2d(4 * width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))
        self.downsample = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.norm(self.conv1(x)))
        out = self.scale * self.conv3(F.gelu(out))
        if self.training and self.drop_path:
            kept = 1 - self.drop_path
            out = out * torch.full((len(x), 1, 1, 1), kept, device=x.device, dtype=out.dtype).bernoulli() / kept
        return out + self.downsample(x)


class _Norm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, B C H W in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
