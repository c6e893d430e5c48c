"""Ultra-lightweight subspace attention: each group of channels has one map that sums to 1 over the positions."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="ULSAM: Ultra-Lightweight Subspace Attention Module for Compact Convolutional Neural Networks",
    authors="Rajat Saini and Nandan Kumar Jha and Bedanta Das and Sparsh Mittal and C. Krishna Mohan",
    venue="WACV",
    year=2020,
    url="https://arxiv.org/abs/2006.15102",
    parameters="2 * C",
    deviations="The equations; the released code has batch norms and ReLUs behind both convolutions.",
    clamping="As many subspaces as the channels allow, at most `groups`.",
)


@attention("ulsam", PAPER)
class SubspaceAttention(nn.Module):
    """Multiply each group of channels by 1 plus one softmax over the positions (eq. 3-5)."""

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        groups = divisor(channels, groups)
        self.depthwise = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.point = nn.Conv2d(channels, groups, 1, groups=groups, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """The factor of every group's channels, B C H W, in (1, 2)."""
        logits = self.point(F.max_pool2d(self.depthwise(x), 3, 1, 1))  # B G H W
        weights = logits.flatten(2).softmax(2).reshape(logits.shape)
        return 1 + weights.repeat_interleave(x.shape[1] // logits.shape[1], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
