"""Efficient channel attention: a 1-D convolution over the pooled channels."""

import math

from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
    authors="Qilong Wang and Banggu Wu and Pengfei Zhu and Peihua Li and Wangmeng Zuo and Qinghua Hu",
    venue="CVPR",
    year=2020,
    url="https://arxiv.org/abs/1910.03151",
    gate=(0.0, 1.0),
    parameters="kernel or k",
    where={"t": "int(abs((log2(C) + 1) / 2))", "k": "t if t % 2 else t + 1"},
    deviations="Equation 12 gives kernels of 5, 5, 5, 7 at the ends of a ResNet-50's bottlenecks; the released weights "
    "have 3, 5, 5, 7 and the released code's default is 3 everywhere: kernel=3.",
    clamping="The formula's kernel is at least 3 (from 8 channels on).",
)


@attention("eca", PAPER)
class ECA(nn.Module):
    """Gate each channel by its neighbours' averages; `kernel` 0 takes the paper's size for the width (eq. 9, 12)."""

    def __init__(self, channels: int, kernel: int = 0) -> None:
        super().__init__()
        if kernel < 0 or (kernel and kernel % 2 == 0):
            raise ValueError(f"kernel={kernel} must be odd, or 0 for the paper's")
        kernel = kernel or adaptive_kernel(channels)
        self.mix = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        pooled = mean(x, (2, 3)).unsqueeze(1)  # B 1 C
        return self.mix(pooled).sigmoid().reshape(*x.shape[:2], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def adaptive_kernel(channels: int) -> int:
    """The nearest odd number to (log2 C + 1) / 2 (eq. 12), rounded as in the released code."""
    size = int(abs((math.log2(channels) + 1) / 2))
    return size if size % 2 else size + 1
