"""Squeeze-and-excitation: one gate per channel from the pooled features."""

from typing import Literal

from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Squeeze-and-Excitation Networks",
    authors="Jie Hu and Li Shen and Gang Sun",
    venue="CVPR",
    year=2018,
    url="https://arxiv.org/abs/1709.01507",
    gate=(0.0, 1.0),
    parameters="2*C*h + (h + C) * (variant == 'paper')",
    where={"h": "reduced(C, reduction)"},
    synonyms={"variant": {"official": "paper"}},
    deviations="The released Caffe models have biases, as the equations' fully connected layers do; most PyTorch "
    'copies drop them (variant="classic").',
    clamping="At least one hidden channel.",
)


@attention("se", PAPER)
class SE(nn.Module):
    """Gate each channel by an MLP over the globally averaged channels (eq. 2-4)."""

    def __init__(self, channels: int, reduction: int = 16, variant: Literal["paper", "classic"] = "paper") -> None:
        super().__init__()
        hidden, bias = reduced(channels, reduction), variant == "paper"
        self.fc = nn.Sequential(nn.Linear(channels, hidden, bias), nn.ReLU(), nn.Linear(hidden, channels, bias))

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        return self.fc(mean(x, (2, 3))).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
