"""Strip attention: depthwise convolutions of row and column averages, added before the gate."""

from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="PyTorch Image Models",
    authors="Ross Wightman",
    venue="GitHub",
    year=2019,
    url="https://github.com/huggingface/pytorch-image-models",
    gate=(0.0, 1.0),
    parameters="2 * C * kernel",
    deviations="A module of timm's; there is no paper of its own.",
)


@attention("strip", PAPER)
class StripAttention(nn.Module):
    """Gate each position by the sum of its row's and its column's depthwise convolved averages."""

    def __init__(self, channels: int, kernel: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        self.rows, self.columns = (
            nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False) for _ in range(2)
        )

    def gate(self, x: Tensor) -> Tensor:
        """The gate, B C H W, in (0, 1)."""
        return (self.rows(mean(x, 3)).unsqueeze(3) + self.columns(mean(x, 2)).unsqueeze(2)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
