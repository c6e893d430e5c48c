"""HaloNet's attention: the positions of a block share one neighbourhood, the block with a halo around it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out
from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="Scaling Local Self-Attention for Parameter Efficient Visual Backbones",
    authors="Ashish Vaswani and Prajit Ramachandran and Aravind Srinivas and Niki Parmar and Blake Hechtman and "
    "Jonathon Shlens",
    venue="CVPR",
    year=2021,
    url="https://arxiv.org/abs/2103.12731",
    kind="R",
    paper_site="conv",
    parameters="3 * C * C + 2 * (2 * block + 2 * halo - 1) * C // divisor(C, heads)",
    positions="blocks lie on a fixed grid, and a position sees more on the side of its block's middle",
    deviations="No code was released. Content and position logits are divided by the root of a head's width, and "
    "positions beyond the border are zeros that take part in the softmax.",
    clamping="As many heads as the channels allow, at most `heads`. Maps that are no multiple of a block are filled "
    "with zeros and cut again.",
)


@attention("halo", PAPER)
class HaloAttention(nn.Module):
    """Attend from each block to the block and its halo, by content and by row and column distance (section 2)."""

    def __init__(self, channels: int, heads: int = 8, block: int = 8, halo: int = 3) -> None:
        super().__init__()
        if block < 1 or halo < 0:
            raise ValueError(f"block={block} must be at least 1 and halo={halo} at least 0")
        self.heads, self.block, self.halo = divisor(channels, heads), block, halo
        depth, distances = channels // self.heads, 2 * (block + halo) - 1
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.rows = nn.Parameter(torch.randn(distances, depth) * depth**-0.5)
        self.columns = nn.Parameter(torch.randn(distances, depth) * depth**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        below, right = -height % self.block, -width % self.block
        query, key, value = F.pad(self.qkv(x), (0, right, 0, below)).chunk(3, dim=1)
        query, key, value = self._windows(query, 0), self._windows(key, self.halo), self._windows(value, self.halo)
        logits = query @ key.transpose(3, 4) + self._positions(query)  # B h N bb ww
        out = (logits * query.shape[4] ** -0.5).softmax(4) @ value  # B h N bb c
        blocks = out.permute(0, 1, 4, 3, 2).flatten(1, 3)  # B Cbb N
        whole = F.fold(blocks, (height + below, width + right), self.block, stride=self.block)
        return laid_out(F.pad(whole, (0, -right, 0, -below)), x)

    def _windows(self, x: Tensor, halo: int) -> Tensor:
        """Each block with `halo` positions around it: B h N ww c."""
        windows = F.unfold(x, self.block + 2 * halo, padding=halo, stride=self.block)
        return windows.reshape(x.shape[0], self.heads, x.shape[1] // self.heads, -1, windows.shape[2]).permute(
            0, 1, 4, 3, 2
        )

    def _positions(self, query: Tensor) -> Tensor:
        """Logits B h N bb ww of each block's queries for the distances to its window."""
        side = self.block + 2 * self.halo
        places = query.unflatten(3, (self.block, self.block))  # B h N b b c
        rows = torch.einsum("bhnijc,iac->bhnija", places, self._distances(self.rows))
        columns = torch.einsum("bhnijc,jac->bhnija", places, self._distances(self.columns))
        return (rows.unsqueeze(6) + columns.unsqueeze(5)).reshape(*query.shape[:4], side * side)

    def _distances(self, table: Tensor) -> Tensor:
        """The vectors from each place of a block to each of its window: b w c."""
        last, side = self.block - 1, self.block + 2 * self.halo
        return torch.stack([table[last - place : last - place + side] for place in range(self.block)])
