"""Criss-cross attention: every position attends to its row and its column, twice, which reaches every other one."""

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="CCNet: Criss-Cross Attention for Semantic Segmentation",
    authors="Zilong Huang and Xinggang Wang and Lichao Huang and Chang Huang and Yunchao Wei and Wenyu Liu",
    venue="ICCV",
    year=2019,
    url="https://arxiv.org/abs/1811.11721",
    paper_site="stage",
    paper_stages=(-1,),
    parameters="2 * (C*h + h) + C * C + C + 1",
    where={"h": "reduced(C, reduction)"},
    inert={"key.bias": "adds the same to all similarities of a position, which a softmax does not see"},
    deviations="A position lies on its row and on its column and counts once; the released code masks it in the "
    "column. What is attended to is scaled by a number that starts at 0, as released; the equations have none.",
    clamping="At least one inner channel.",
)


@attention("cca", PAPER)
class CrissCross(nn.Module):
    """Add the features of a position's row and column, weighed by similarity, `recurrence` times (eq. 1-2)."""

    def __init__(self, channels: int, reduction: int = 8, recurrence: int = 2) -> None:
        super().__init__()
        if recurrence < 1:
            raise ValueError(f"recurrence={recurrence} must be at least 1")
        inner, self.recurrence = reduced(channels, reduction), recurrence
        self.query, self.key = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.recurrence):
            x = self._once(x)
        return x

    def _once(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        height, width = x.shape[2:]
        itself = torch.eye(height, dtype=torch.bool, device=x.device)[:, None, :]  # H 1 H: seen in the row already
        column = torch.einsum("bchw,bcgw->bhwg", query, key).masked_fill(itself, float("-inf"))
        row = torch.einsum("bchw,bchv->bhwv", query, key)
        weights = torch.cat([column, row], dim=3).softmax(3)  # B H W H+W
        column, row = weights.split([height, width], dim=3)
        attended = torch.einsum("bhwg,bcgw->bchw", column, value) + torch.einsum("bhwv,bchv->bchw", row, value)
        return x + self.gamma * attended  # x first: the sum has its memory layout
