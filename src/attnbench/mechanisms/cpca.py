"""Channel prior convolutional attention: a channel gate, then depthwise strips of several lengths."""

from typing import Literal

from torch import Tensor, nn

from attnbench.maps import amax, mean
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Channel Prior Convolutional Attention for Medical Image Segmentation",
    authors="Hejun Huang and Zuguo Chen and Ying Zou and Ming Lu and Chaoyang Chen",
    venue="Computers in Biology and Medicine",
    year=2024,
    url="https://arxiv.org/abs/2306.05196",
    parameters="2*C*h + h + C + (25 + 1) * C + 2 * (7 + 11 + 21) * C + 6 * C + C * C + C",
    where={"h": "reduced(C, reduction)"},
    deviations="The attention of the paper's equations, without the layers that stand around it in its block: the "
    "released code uses the 1x1 convolution of the attention there too, with the same weights. It takes the sigmoid of "
    'each pool\'s logits and adds both, so that the channel gate reaches 2 (variant="official"); the paper takes it of '
    "their sum. Strip lengths 7, 11 and 21.",
    clamping="At least one hidden channel.",
)


@attention("cpca", PAPER)
class ChannelPrior(nn.Module):
    """Multiply by a channel gate, then by a 1x1 convolution of depthwise strips of what that leaves (eq. 1-4)."""

    def __init__(self, channels: int, reduction: int = 4, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        hidden, self.one_sigmoid = reduced(channels, reduction), variant == "paper"
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(_strips(channels, length) for length in (7, 11, 21))
        self.mix = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """The factor, B C H W, without bounds."""
        average, maximum = self.mlp(mean(x, (2, 3), keepdim=True)), self.mlp(amax(x, (2, 3), keepdim=True))
        channel = (average + maximum).sigmoid() if self.one_sigmoid else average.sigmoid() + maximum.sigmoid()
        local = self.local(x * channel)
        return channel * self.mix(local + sum(strip(local) for strip in self.strips))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def _strips(channels: int, length: int) -> nn.Sequential:
    half = length // 2
    return nn.Sequential(
        nn.Conv2d(channels, channels, (1, length), padding=(0, half), groups=channels),
        nn.Conv2d(channels, channels, (length, 1), padding=(half, 0), groups=channels),
    )
