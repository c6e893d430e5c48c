"""Spatial pyramid attention: averages over the map, its quarters and its sixteenths decide the channels' gates."""

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, reduced
from attnbench.mechanisms.fca import windows

PAPER = Paper(
    title="SPANet: Spatial Pyramid Attention Network for Enhanced Image Recognition",
    authors="Jingda Guo and Xu Ma and Andrew Sansom and Mara McGuire and Andrew Kalaani and Qi Chen and Sihai Tang and "
    "Qing Yang and Song Fu",
    venue="ICME",
    year=2020,
    url="https://ieeexplore.ieee.org/document/9102906",
    gate=(0.0, 1.0),
    parameters="21 * C * h + h + h * C + C",
    positions="the windows of the pyramid have weights of their own",
    where={"h": "reduced(C, reduction)"},
    deviations="The two layers have biases, as fully connected layers have; those of the released code have none.",
    clamping="At least one hidden channel. On maps below 4x4 the windows overlap.",
)


@attention("spa", PAPER)
class SpatialPyramid(nn.Module):
    """Gate each channel by an MLP over every channel's averages in 1, 4 and 16 windows (section 3)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = reduced(channels, reduction)
        self.fc = nn.Sequential(nn.Linear(21 * channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        pyramid = torch.cat([_averages(x, number) for number in (1, 2, 4)], dim=1)  # B 21C
        return self.fc(pyramid).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def _averages(x: Tensor, number: int) -> Tensor:
    """The means of number x number windows, flattened; as products of matrices, which are deterministic."""
    rows, columns = windows(number, x.shape[2], x), windows(number, x.shape[3], x)
    return (rows @ x @ columns.transpose(0, 1)).flatten(1)
