"""Outlook attention: every position spreads a mix of its neighbourhood over that neighbourhood."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="VOLO: Vision Outlooker for Visual Recognition",
    authors="Li Yuan and Qibin Hou and Zihang Jiang and Jiashi Feng and Shuicheng Yan",
    venue="IEEE Transactions on Pattern Analysis and Machine Intelligence",
    year=2022,
    url="https://arxiv.org/abs/2106.13112",
    kind="R",
    parameters="C * C + C * kernel**4 * k + kernel**4 * k + C * C + C",
    where={"k": "divisor(C, heads)"},
    deviations="The attention alone, without the layer norm and the MLP of the paper's block; logits are scaled by the "
    "root of a head's width, as released.",
    clamping="As many heads as the channels allow, at most `heads`.",
)


@attention("outlook", PAPER)
class OutlookAttention(nn.Module):
    """Weigh each neighbourhood by weights that its centre generates, and sum what overlaps (eq. 3-5)."""

    def __init__(self, channels: int, kernel: int = 3, heads: int = 6) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        self.kernel, self.heads = kernel, divisor(channels, heads)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.weigh = nn.Conv2d(channels, kernel**4 * self.heads, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        area, positions = self.kernel**2, x.shape[2] * x.shape[3]
        around = F.unfold(self.value(x), self.kernel, padding=self.kernel // 2)
        around = around.reshape(len(x), self.heads, -1, area, positions).permute(0, 1, 4, 3, 2)  # B h N KK c
        weights = self.weigh(x).reshape(len(x), self.heads, area, area, positions).permute(0, 1, 4, 2, 3)
        weights = (weights / around.shape[4] ** 0.5).softmax(4)  # B h N KK KK
        spread = (weights @ around).permute(0, 1, 4, 3, 2).reshape(len(x), -1, positions)
        return self.out(F.fold(spread, x.shape[2:], self.kernel, padding=self.kernel // 2))
