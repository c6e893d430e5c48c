"""Selective kernels: branches of growing kernels, mixed channel by channel by a softmax over the branches."""

import torch
from torch import Tensor, nn

from attnbench.maps import laid_out, mean
from attnbench.mechanisms import Paper, attention, divisor, reduced

PAPER = Paper(
    title="Selective Kernel Networks",
    authors="Xiang Li and Wenhai Wang and Xiaolin Hu and Jian Yang",
    venue="CVPR",
    year=2019,
    url="https://arxiv.org/abs/1903.06586",
    kind="R",
    paper_site="conv",
    parameters="branches * (9 * C * C // g + 2 * C) + C*d + 2*d + branches * C * d",
    where={"g": "divisor(C, groups)", "d": "reduced(C, reduction, least)"},
    deviations="The 5x5 and larger kernels are 3x3 kernels with dilation, as section 3.1 says.",
    clamping="At least `least` hidden channels; as many equal groups as the channels allow, at most `groups`. "
    "A batch of one image is refused in training, by the batch norm behind the pooling.",
)


@attention("sk", PAPER)
class SelectiveKernel(nn.Module):
    """Convolve with several dilations and mix the results by a softmax over them for each channel (eq. 1-6)."""

    def __init__(
        self, channels: int, branches: int = 2, reduction: int = 16, least: int = 32, groups: int = 32
    ) -> None:
        super().__init__()
        if branches < 2:
            raise ValueError(f"branches={branches} must be at least 2: there is nothing to select otherwise")
        hidden = reduced(channels, reduction, least)
        self.split = nn.ModuleList(
            _branch(channels, number + 1, divisor(channels, groups)) for number in range(branches)
        )
        self.fuse = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())
        self.select = nn.Conv2d(hidden, branches * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.stack([branch(x) for branch in self.split], dim=1)  # B M C H W
        pooled = mean(branches.sum(1), (2, 3), keepdim=True)
        logits = self.select(self.fuse(pooled)).reshape(x.shape[0], len(self.split), x.shape[1], 1, 1)
        return laid_out((branches * logits.softmax(1)).sum(1), x)


def _branch(channels: int, dilation: int, groups: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())
