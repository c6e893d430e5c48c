"""Bottleneck attention: a channel and a dilated spatial branch side by side, at the ends of stages."""

from typing import Literal

from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="BAM: Bottleneck Attention Module",
    authors="Jongchan Park and Sanghyun Woo and Joon-Young Lee and In So Kweon",
    venue="BMVC",
    year=2018,
    url="https://arxiv.org/abs/1807.06514",
    kind="S",
    paper_site="stage",
    paper_stages=(-4, -3, -2),
    gate=(1.0, 2.0),
    parameters="3*C*h + C + 6*h + 2 * (9*h*h + 3*h) + h + 1 + (2*C + 2) * (variant == 'paper')",
    where={"h": "reduced(C, reduction)"},
    inert={
        "channel.0.bias": "a constant in front of a batch norm",
        "channel.3.bias": "a constant in front of a batch norm",
        "spatial.0.bias": "a constant in front of a batch norm",
        "spatial.3.bias": "a constant in front of a batch norm",
        "spatial.6.bias": "a constant in front of a batch norm",
        "spatial.9.bias": "a constant in front of a batch norm",
    },
    deviations="The paper adds both branches before the sigmoid and has a batch norm behind each of them; the released "
    'code multiplies them and has none there (variant="official"). Both have the batch norms and ReLUs of the released '
    "code between the convolutions, of which the equations say nothing.",
    clamping="At least one hidden channel. "
    "A batch of one image is refused in training, by the batch norm behind the pooling.",
)


@attention("bam", PAPER)
class BAM(nn.Module):
    """Multiply by 1 plus the gate of a channel branch and a dilated spatial branch (eq. 1-4)."""

    def __init__(
        self, channels: int, reduction: int = 16, dilation: int = 4, variant: Literal["paper", "official"] = "paper"
    ) -> None:
        super().__init__()
        if dilation < 1:
            raise ValueError(f"dilation={dilation} must be at least 1")
        hidden, self.added = reduced(channels, reduction), variant == "paper"
        self.channel = nn.Sequential(*_unit(channels, hidden, 1), nn.Conv2d(hidden, channels, 1))
        self.spatial = nn.Sequential(
            *_unit(channels, hidden, 1),
            *_unit(hidden, hidden, 3, dilation),
            *_unit(hidden, hidden, 3, dilation),
            nn.Conv2d(hidden, 1, 1),
        )
        if self.added:
            self.channel.append(nn.BatchNorm2d(channels))
            self.spatial.append(nn.BatchNorm2d(1))

    def gate(self, x: Tensor) -> Tensor:
        """The factor, B C H W, in (1, 2)."""
        channel, spatial = self.channel(mean(x, (2, 3), keepdim=True)), self.spatial(x)
        return 1 + (channel + spatial if self.added else channel * spatial).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def _unit(channels: int, width: int, kernel: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(channels, width, kernel, padding=padding, dilation=dilation)
    return [conv, nn.BatchNorm2d(width), nn.ReLU()]
