"""Simple coordinate attention: one MLP for rows and columns, whose results are added before the gate."""

import torch.nn.functional as F
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
    parameters="C*h + h + 2 * (h*C + C)",
    where={"h": "max(8, int(C / 6 + 4) // 8 * 8)"},
    deviations="A variant of coordinate attention (2103.02907) that timm has; there is no paper of its own.",
    clamping="A multiple of 8 hidden channels near C / 6, at least 8.",
)


@attention("simple_coord", PAPER)
class SimpleCoordinateAttention(nn.Module):
    """Gate each position by the sum of its row's and its column's logits, both from one hidden layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, int(channels / 6 + 4) // 8 * 8)
        self.squeeze = nn.Linear(channels, hidden)
        self.rows, self.columns = nn.Linear(hidden, channels), nn.Linear(hidden, channels)

    def gate(self, x: Tensor) -> Tensor:
        """The gate, B C H W, in (0, 1)."""
        rows, columns = (F.silu(self.squeeze(mean(x, axis).transpose(1, 2))) for axis in (3, 2))  # B H h, B W h
        logits = self.rows(rows).transpose(1, 2).unsqueeze(3) + self.columns(columns).transpose(1, 2).unsqueeze(2)
        return logits.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
