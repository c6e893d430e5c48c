"""Large separable kernel attention: every kernel of large kernel attention split into a row and a column."""

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention
from attnbench.mechanisms.lka import draw_by_outputs

PAPER = Paper(
    title="Large Separable Kernel Attention: Rethinking the Large Kernel Attention Design in CNN",
    authors="Kin Wai Lau and Lai-Man Po and Yasar Abbas Ur Rehman",
    venue="Expert Systems with Applications",
    year=2024,
    url="https://arxiv.org/abs/2309.01439",
    parameters="2 * (5 * C + C) + 2 * (7 * C + C) + C * C + C",
    deviations="Kernels of 5 and of 7 with dilation 3, as in large kernel attention (the paper's size 23). The "
    "factor has no bound. First weights are those of the network's own loop "
    "(StevenLauHKHK/Large-Separable-Kernel-Attention at bb2a8d2, models/van.py), as in large kernel attention: with "
    "torch's, which the class leaves, the factor is nearly 0.",
    version=2,
)


@attention("lska", PAPER)
class LargeSeparableKernel(nn.Module):
    """Multiply by row and column convolutions, dilated ones, and a 1x1 convolution of the input (eq. 5-8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Sequential(
            nn.Conv2d(channels, channels, (1, 5), padding=(0, 2), groups=channels),
            nn.Conv2d(channels, channels, (5, 1), padding=(2, 0), groups=channels),
        )
        self.wide = nn.Sequential(
            nn.Conv2d(channels, channels, (1, 7), padding=(0, 9), groups=channels, dilation=3),
            nn.Conv2d(channels, channels, (7, 1), padding=(9, 0), groups=channels, dilation=3),
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        draw_by_outputs(self)

    def gate(self, x: Tensor) -> Tensor:
        """The factor, B C H W, without bounds."""
        return self.mix(self.wide(self.local(x)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
