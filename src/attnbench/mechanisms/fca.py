"""Frequency channel attention: discrete cosine components in place of the average, then an MLP."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, Size, attention, divisor, reduced

PAPER = Paper(
    title="FcaNet: Frequency Channel Attention Networks",
    authors="Zequn Qin and Pengyi Zhang and Fei Wu and Xi Li",
    venue="ICCV",
    year=2021,
    url="https://arxiv.org/abs/2012.11879",
    paper_site="block",
    gate=(0.0, 1.0),
    parameters="2 * C * reduced(C, reduction)",
    positions="each channel is a cosine component of the map, in which every position has a weight of its own",
    deviations="The components carry the orthonormal factors of the released code. A map built for s x s has the "
    "released networks' frequencies: those of the 7x7 grid times s // 7.",
    clamping="At least one hidden channel. As many frequencies, from the front of the list, as divide the channels "
    "into equal groups. Sides below 7 are averaged up to 7; maps of another size than the module was built for are "
    "averaged to that size, as released.",
)

SELECTIONS = {
    "top": (
        (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2, 4, 6, 3, 5, 5, 2, 6, 5, 5, 3, 3, 4, 2, 2, 6, 1),
        (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2, 6, 3, 3, 3, 5, 1, 1, 2, 4, 2, 1, 1, 3, 0, 5, 3),
    ),
    "low": (
        (0, 0, 1, 1, 0, 2, 2, 1, 2, 0, 3, 4, 0, 1, 3, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4),
        (0, 1, 0, 1, 2, 0, 1, 2, 2, 3, 0, 0, 4, 3, 1, 5, 4, 3, 2, 1, 0, 6, 5, 4, 3, 2, 1, 0, 6, 5, 4, 3),
    ),
}
"""Vertical and horizontal frequencies on the 7x7 grid, in the released order."""


@attention("fca", PAPER)
class FCA(nn.Module):
    """Gate each channel by an MLP over one 2-D cosine component of every channel (section 3)."""

    tall: Tensor
    wide: Tensor

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        frequencies: int = 16,
        selection: Literal["top", "low"] = "top",
        size: Size | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= frequencies <= 32:
            raise ValueError(f"frequencies={frequencies} must be from 1 to 32")
        groups, (height, width) = divisor(channels, frequencies), size or (14, 14)
        vertical, horizontal = SELECTIONS[selection]
        self.register_buffer("tall", _cosines(vertical[:groups], max(7, height)), persistent=False)
        self.register_buffer("wide", _cosines(horizontal[:groups], max(7, width)), persistent=False)
        hidden = reduced(channels, reduction)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def components(self, x: Tensor) -> Tensor:
        """One cosine component of each channel, B C; each group of channels has a frequency of its own."""
        tall = self.tall @ windows(self.tall.shape[1], x.shape[2], x)  # G H
        wide = self.wide @ windows(self.wide.shape[1], x.shape[3], x)  # G W
        groups = x.reshape(x.shape[0], tall.shape[0], -1, *x.shape[2:])  # B G C/G H W
        return torch.einsum("bgchw,gh,gw->bgc", groups, tall, wide).flatten(1)

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        return self.fc(self.components(x)).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def _cosines(frequencies: tuple[int, ...], length: int) -> Tensor:
    """Orthonormal cosines of the 7-part grid's frequencies over `length` places, G length."""
    rates = torch.tensor(frequencies)[:, None] * (length // 7)
    waves = torch.cos(math.pi / length * rates * (torch.arange(length) + 0.5))
    return waves * torch.where(rates == 0, 1.0, math.sqrt(2)) / math.sqrt(length)


def windows(bins: int, length: int, like: Tensor) -> Tensor:
    """Adaptive average pooling from `length` places to `bins` as a matrix: its gradient has a deterministic form."""
    start, place = torch.arange(bins, device=like.device)[:, None], torch.arange(length, device=like.device)
    inside = (place >= start * length // bins) & (place < (start * length + length + bins - 1) // bins)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True).to(like.dtype)
