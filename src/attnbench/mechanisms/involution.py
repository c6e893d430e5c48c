"""Involution: a kernel for every position, made from its features and shared by groups of channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out
from attnbench.mechanisms import Paper, attention, divisor, reduced
from attnbench.mechanisms.lka import draw_by_outputs

PAPER = Paper(
    title="Involution: Inverting the Inherence of Convolution for Visual Recognition",
    authors="Duo Li and Jie Hu and Changhu Wang and Xiangtai Li and Qi She and Lei Zhu and Tong Zhang and Qifeng Chen",
    venue="CVPR",
    year=2021,
    url="https://arxiv.org/abs/2103.06255",
    kind="R",
    paper_site="conv",
    parameters="C*h + 2*h + h * kernel**2 * g + kernel**2 * g",
    where={"h": "reduced(C, reduction)", "g": "divisor(C, reduced(C, group_channels))"},
    deviations="First weights are those of the released class (d-li14/involution at 21c3158, involution_naive.py, by "
    "mmcv's ConvModule): normal, of variance 2 over the outputs, and a bias of 0.",
    clamping="At least one group and one hidden channel.",
    version=2,
)


@attention("involution", PAPER)
class Involution(nn.Module):
    """Sum each position's neighbourhood with a kernel that the position itself generates (eq. 4-6)."""

    def __init__(self, channels: int, kernel: int = 7, group_channels: int = 16, reduction: int = 4) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        hidden = reduced(channels, reduction)
        self.kernel, self.groups = kernel, divisor(channels, reduced(channels, group_channels))
        self.reduce = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU())
        self.span = nn.Conv2d(hidden, kernel**2 * self.groups, 1)
        draw_by_outputs(self)

    def forward(self, x: Tensor) -> Tensor:
        positions = x.shape[2] * x.shape[3]
        kernels = self.span(self.reduce(x)).reshape(x.shape[0], self.groups, self.kernel**2, positions)
        around = F.unfold(x, self.kernel, padding=self.kernel // 2)
        around = around.reshape(x.shape[0], self.groups, -1, self.kernel**2, positions)  # B G C/G KK N
        return laid_out(torch.einsum("bgkn,bgckn->bgcn", kernels, around).reshape(x.shape), x)
