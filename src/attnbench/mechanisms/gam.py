"""Global attention mechanism: an MLP over the channels of each position, then two large full convolutions."""

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions",
    authors="Yichao Liu and Zongru Shao and Nico Hoffmann",
    venue="arXiv",
    year=2021,
    url="https://arxiv.org/abs/2112.05561",
    gate=(0.0, 1.0),
    parameters="2*C*h + h + C + 2 * kernel**2 * C * h + h + C + 2*h + 2*C",
    where={"h": "reduced(C, rate)"},
    inert={
        "spatial.0.bias": "a constant in front of a batch norm",
        "spatial.3.bias": "a constant in front of a batch norm",
    },
    deviations="Of the copies in circulation most have no sigmoid behind the channel MLP; at least one has it, as the "
    "paper's figure 2 does and as here.",
    clamping="At least one hidden channel.",
)


@attention("gam", PAPER)
class GlobalAttention(nn.Module):
    """Gate by an MLP over each position's channels, then by two 7x7 convolutions of the result (eq. 1-2)."""

    def __init__(self, channels: int, rate: int = 4, kernel: int = 7) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        hidden, padding = reduced(channels, rate), kernel // 2
        self.channel = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel, padding=padding),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, kernel, padding=padding),
            nn.BatchNorm2d(channels),
        )

    def gate(self, x: Tensor) -> Tensor:
        """The product of both gates, B C H W, in (0, 1)."""
        channel = self.channel(x).sigmoid()
        return channel * self.spatial(x * channel).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
