"""Outlook attention: each pixel makes the attention within its window, without queries and keys."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out
from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="VOLO: Vision Outlooker for Visual Recognition",
    authors="Li Yuan and Qibin Hou and Zihang Jiang and Jiashi Feng and Shuicheng Yan",
    venue="arXiv",
    year=2021,
    url="https://arxiv.org/abs/2106.13112",
    kind="R",
    paper_site="conv",
    parameters="C*C + (C + 1) * heads * kernel**4 + (C*C + C) * (variant == 'official')",
    where={"heads": "divisor(C, max(1, C // head_channels))"},
    deviations="Algorithm 1 ends with the windows added up. The released code divides the logits by the root of a "
    'head\'s channels and has a linear layer at the end (variant="official"). Its networks have a window at every '
    "second pixel (stride=2), whose weights are made from the average of 2x2 pixels; at stride 1 the same lines "
    "compute what is computed here.",
    clamping="At least one head; wider heads where they would not be equal.",
)


@attention("outlook", PAPER)
class OutlookAttention(nn.Module):
    """Mix each window's values by weights that a linear layer makes from its centre, and add the windows (eq. 3-5)."""

    def __init__(
        self,
        channels: int,
        kernel: int = 3,
        head_channels: int = 32,
        stride: int = 1,
        variant: Literal["paper", "official"] = "paper",
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        if not 1 <= stride <= kernel:
            raise ValueError(
                f"stride={stride} must be from 1 to kernel={kernel}, so that the windows reach every pixel"
            )
        if head_channels < 1:
            raise ValueError(f"head_channels={head_channels} must be at least 1")
        self.kernel, self.stride = kernel, stride
        self.heads = divisor(channels, max(1, channels // head_channels))
        self.scale = (channels // self.heads) ** -0.5 if variant == "official" else 1.0
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.attend = nn.Conv2d(channels, self.heads * kernel**4, 1)
        self.project = nn.Conv2d(channels, channels, 1) if variant == "official" else nn.Identity()
        for layer in (self.value, self.attend, self.project):  # as released
            if isinstance(layer, nn.Conv2d):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias) if layer.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        window = {"padding": self.kernel // 2, "stride": self.stride}
        shape = x.shape[0], self.heads, -1, self.kernel**2
        values = F.unfold(self.value(x), self.kernel, **window)
        values = values.reshape(*shape, values.shape[-1])  # B heads C/heads KK N
        centres = F.avg_pool2d(x, self.stride, ceil_mode=True)
        logits = self.attend(centres).reshape(*shape, values.shape[-1])  # B heads KK KK N
        weights = (logits * self.scale).softmax(3)
        mixed = torch.einsum("bhijn,bhcjn->bhcin", weights, values).reshape(x.shape[0], -1, values.shape[-1])
        return laid_out(self.project(F.fold(mixed, x.shape[2:], self.kernel, **window)), x)
