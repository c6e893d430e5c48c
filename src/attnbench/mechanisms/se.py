"""Squeeze-and-excitation: one gate per channel from the pooled features."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import hardsigmoid

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
    where={"h": "hidden or reduced(C, reduction)"},
    synonyms={"variant": {"official": "paper"}},
    deviations="The released Caffe models have biases, as the equations' fully connected layers do; most PyTorch "
    'copies drop them (variant="classic"). MobileNetV3 gates by a hard sigmoid (gating="hardsigmoid"), EfficientNet\'s '
    'hidden units are SiLU (activation="silu"); as the hidden width of either is not C / reduction, `hidden` sets it.',
    clamping="At least one hidden channel.",
)


@attention("se", PAPER)
class SE(nn.Module):
    """Gate each channel by an MLP over the globally averaged channels (eq. 2-4), C / `reduction` or `hidden` wide."""

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        variant: Literal["paper", "classic"] = "paper",
        hidden: int = 0,
        activation: Literal["relu", "silu"] = "relu",
        gating: Literal["sigmoid", "hardsigmoid"] = "sigmoid",
    ) -> None:
        super().__init__()
        if hidden and reduction != 16:
            raise ValueError(f"hidden={hidden} and reduction={reduction} both say how many hidden channels; give one")
        hidden, bias = hidden or reduced(channels, reduction), variant == "paper"
        between = nn.ReLU() if activation == "relu" else nn.SiLU()
        self.fc = nn.Sequential(nn.Linear(channels, hidden, bias), between, nn.Linear(hidden, channels, bias))
        self.squash = torch.sigmoid if gating == "sigmoid" else hardsigmoid

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        return self.squash(self.fc(mean(x, (2, 3))))[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
