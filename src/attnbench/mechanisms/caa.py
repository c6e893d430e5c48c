"""Context anchor attention: averages, long depthwise strips and 1x1 convolutions give each position's gate."""

from torch import Tensor, nn

from attnbench.maps import avg_pool
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Poly Kernel Inception Network for Remote Sensing Detection",
    authors="Xinhao Cai and Qiuxia Lai and Yuwei Wang and Wenguan Wang and Zeren Sun and Yazhou Yao",
    venue="CVPR",
    year=2024,
    url="https://arxiv.org/abs/2403.06258",
    gate=(0.0, 1.0),
    parameters="2 * (C * C + C) + 2 * (kernel * C + C)",
    deviations="As the released network builds it: four convolutions with biases. The defaults of the released class, "
    "a batch norm and a SiLU behind both 1x1 convolutions, are switched off there; most copies leave them on, and "
    "their gates are never below sigmoid(-0.2785) = 0.43. The network raises the kernel by 2 from block to block of a "
    "stage, and gates the output of another branch; here the kernel is the first block's, and the input is gated.",
)


@attention("caa", PAPER)
class ContextAnchor(nn.Module):
    """Gate by the sigmoid of 1x1, horizontal, vertical and 1x1 convolutions of 7x7 averages."""

    def __init__(self, channels: int, kernel: int = 11) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        half = kernel // 2
        self.before, self.behind = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.horizontal = nn.Conv2d(channels, channels, (1, kernel), padding=(0, half), groups=channels)
        self.vertical = nn.Conv2d(channels, channels, (kernel, 1), padding=(half, 0), groups=channels)

    def gate(self, x: Tensor) -> Tensor:
        """The gate, B C H W, in (0, 1)."""
        local = self.before(avg_pool(x, 7, 1, 3))
        return self.behind(self.vertical(self.horizontal(local))).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
