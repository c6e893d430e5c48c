"""Spatial and channel synergy: strips of four scales gate positions, then the channels attend to each other."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="SCSA: Exploring the Synergistic Effects Between Spatial and Channel Attention",
    authors="Yunzhong Si and Huiying Xu and Xinzhong Zhu and Wenhao Zhang and Yao Dong and Yuxing Chen and Hongbo Li",
    venue="Neurocomputing",
    year=2025,
    url="https://arxiv.org/abs/2407.05128",
    gate=(0.0, 1.0),
    parameters="C // 4 * (3 + 5 + 7 + 9) + C + 4 * C + 2 * C + 3 * C",
    positions="channels attend over averages of the cells of a fixed grid",
    deviations="One head, as in the paper; the released code has the number of heads as an option, and 1 in all its "
    "configurations for ImageNet.",
    clamping="As many heads as the channels allow, at most `heads`; the window is at most as large as the map. The "
    "number of channels must be a multiple of 4.",
    version=2,
)


@attention("scsa", PAPER)
class SCSA(nn.Module):
    """Gate by multi-scale strips along both axes, then by self-attention among the pooled channels (eq. 1-11)."""

    def __init__(self, channels: int, heads: int = 1, window: int = 7) -> None:
        super().__init__()
        if channels % 4:
            raise ValueError(f"channels={channels} must be a multiple of 4, one part for each scale")
        if window < 1:
            raise ValueError(f"window={window} must be at least 1")
        part = channels // 4
        self.heads, self.window = divisor(channels, heads), window
        self.strips = nn.ModuleList(nn.Conv1d(part, part, k, padding=k // 2, groups=part) for k in (3, 5, 7, 9))
        self.norm_rows, self.norm_columns = nn.GroupNorm(4, channels), nn.GroupNorm(4, channels)
        self.norm = nn.GroupNorm(1, channels)
        self.query, self.key, self.value = (_scale(channels) for _ in range(3))

    def gate(self, x: Tensor) -> Tensor:
        """The product of all three gates, B C H W, in (0, 1)."""
        rows = self.norm_rows(self._scales(mean(x, 3))).sigmoid().unsqueeze(3)
        columns = self.norm_columns(self._scales(mean(x, 2))).sigmoid().unsqueeze(2)
        return rows * columns * self._channels(x * rows * columns)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)

    def _scales(self, pooled: Tensor) -> Tensor:
        parts = pooled.chunk(4, dim=1)
        return torch.cat([strip(part) for strip, part in zip(self.strips, parts, strict=True)], dim=1)

    def _channels(self, x: Tensor) -> Tensor:
        window = min(self.window, x.shape[2]), min(self.window, x.shape[3])
        pooled = self.norm(F.avg_pool2d(x, window, window))
        heads = (
            part(pooled).reshape(x.shape[0], self.heads, -1, pooled.shape[2] * pooled.shape[3])
            for part in (self.query, self.key, self.value)
        )
        query, key, value = heads  # B heads C/heads N
        attended = (query @ key.transpose(2, 3) / query.shape[2] ** 0.5).softmax(3) @ value
        return attended.mean(3).reshape(*x.shape[:2], 1, 1).sigmoid()


def _scale(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
