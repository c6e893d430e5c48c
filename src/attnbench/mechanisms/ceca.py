"""Circular efficient channel attention: the first channels are neighbours of the last."""

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention
from attnbench.mechanisms.eca import adaptive_kernel

PAPER = Paper(
    title="PyTorch Image Models",
    authors="Ross Wightman",
    venue="GitHub",
    year=2019,
    url="https://github.com/huggingface/pytorch-image-models",
    gate=(0.0, 1.0),
    parameters="kernel or k",
    where={"t": "int(abs((log2(C) + 1) / 2))", "k": "t if t % 2 else t + 1"},
    deviations="A variant of ECA (1910.03151) that timm has; there is no paper of its own.",
    clamping="The formula's kernel is at least 3 (from 8 channels on).",
)


@attention("ceca", PAPER)
class CircularECA(nn.Module):
    """Gate each channel by its neighbours' averages on a ring of channels, without zeros at the ends."""

    def __init__(self, channels: int, kernel: int = 0) -> None:
        super().__init__()
        if kernel < 0 or (kernel and kernel % 2 == 0):
            raise ValueError(f"kernel={kernel} must be odd, or 0 for ECA's formula")
        kernel = kernel or adaptive_kernel(channels)
        self.mix = nn.Conv1d(1, 1, kernel, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        half = self.mix.kernel_size[0] // 2
        ring = F.pad(mean(x, (2, 3)).unsqueeze(1), (half, half), mode="circular")  # B 1 C + 2 half
        return self.mix(ring).sigmoid().reshape(*x.shape[:2], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
