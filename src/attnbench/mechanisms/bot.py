"""Bottleneck transformer: multi-head self-attention over the whole map, with relative positions, for a convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out
from attnbench.mechanisms import Paper, Size, attention, divisor

PAPER = Paper(
    title="Bottleneck Transformers for Visual Recognition",
    authors="Aravind Srinivas and Tsung-Yi Lin and Niki Parmar and Jonathon Shlens and Pieter Abbeel and "
    "Ashish Vaswani",
    venue="CVPR",
    year=2021,
    url="https://arxiv.org/abs/2101.11605",
    kind="R",
    paper_site="conv",
    paper_stages=(-1,),
    parameters="3 * C * C + (2 * H - 1 + 2 * W - 1) * C // divisor(C, heads)",
    positions="all of the map is attended to by relative position, and what lies around a place differs",
    deviations="Both content and position logits are divided by the root of a head's width.",
    clamping="As many heads as the channels allow, at most `heads`. On maps of another size than it was built for, the "
    "tables of relative positions are interpolated.",
)


@attention("bot", PAPER)
class BottleneckAttention(nn.Module):
    """Attend to all positions by content and by relative position, along height and width (section 3, figure 4)."""

    def __init__(self, channels: int, heads: int = 4, size: Size | None = None) -> None:
        super().__init__()
        self.heads = divisor(channels, heads)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.positions = RelativePositions(channels // self.heads, size or (14, 14))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).reshape(x.shape[0], 3, self.heads, -1, x.shape[2] * x.shape[3]).unbind(1)
        query = query.transpose(2, 3)  # B h N c
        logits = (query @ key + self.positions(query, (x.shape[2], x.shape[3]))) / query.shape[3] ** 0.5
        return laid_out((value @ logits.softmax(3).transpose(2, 3)).reshape(x.shape), x)


class RelativePositions(nn.Module):
    """A learned vector for each vertical and each horizontal distance, multiplied with the queries."""

    def __init__(self, width: int, size: Size) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(2 * size[0] - 1, width) * width**-0.5)
        self.columns = nn.Parameter(torch.randn(2 * size[1] - 1, width) * width**-0.5)

    def forward(self, query: Tensor, size: Size) -> Tensor:
        """Logits B h N N for queries B h N c of a map of `size`."""
        height, width = size
        maps = query.reshape(*query.shape[:2], height, width, -1)
        rows = torch.einsum("bnhwc,hgc->bnhwg", maps, _distances(self.rows, height))
        columns = torch.einsum("bnhwc,wvc->bnhwv", maps, _distances(self.columns, width))
        return (rows.unsqueeze(5) + columns.unsqueeze(4)).flatten(4, 5).flatten(2, 3)


def _distances(table: Tensor, length: int) -> Tensor:
    """The vectors from each of `length` places to each: length x length x c."""
    if len(table) != 2 * length - 1:
        table = _resized(table, length)
    return torch.stack([table[length - 1 - place : 2 * length - 1 - place] for place in range(length)])


def _resized(table: Tensor, length: int) -> Tensor:
    """Interpolated by a sum, in full precision: the gradient of `interpolate` is not deterministic on CUDA."""
    middle = len(table) // 2
    if length == 1:
        return table[middle : middle + 1]
    each = torch.eye(len(table), dtype=table.dtype, device=table.device)[None]
    weights = F.interpolate(each, size=2 * length - 1, mode="linear", align_corners=True)[0]
    return (weights.transpose(0, 1)[..., None] * table).sum(1)
