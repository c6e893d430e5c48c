"""Channel prior convolutional attention: a channel gate, then depthwise strips of several lengths."""

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Channel Prior Convolutional Attention for Medical Image Segmentation",
    authors="Hejun Huang and Zuguo Chen and Ying Zou and Ming Lu and Chaoyang Chen",
    venue="Computers in Biology and Medicine",
    year=2024,
    url="https://arxiv.org/abs/2306.05196",
    parameters="2*C*h + h + C + (25 + 1) * C + 2 * (7 + 11 + 21) * C + 6 * C + C * C + C",
    where={"h": "reduced(C, reduction)"},
    deviations="The attention of the paper's equations, without the 1x1 convolutions that stand around it in its "
    "block. Strip lengths 7, 11 and 21.",
    clamping="At least one hidden channel.",
)


@attention("cpca", PAPER)
class ChannelPrior(nn.Module):
    """Multiply by a channel gate, then by a 1x1 convolution of depthwise strips of what that leaves (eq. 1-4)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = reduced(channels, reduction)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(_strips(channels, length) for length in (7, 11, 21))
        self.mix = nn.Conv2d(channels, channels, 1)

    def gate(self, x: Tensor) -> Tensor:
        """The factor, B C H W, without bounds."""
        pools = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        channel = sum(self.mlp(pool) for pool in pools).sigmoid()
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
