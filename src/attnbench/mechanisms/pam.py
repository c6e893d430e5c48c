"""Position attention: every position sums all positions by their similarity, scaled by a number that starts at 0."""

import torch
from torch import Tensor, nn

from attnbench.maps import laid_out
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Dual Attention Network for Scene Segmentation",
    authors="Jun Fu and Jing Liu and Haijie Tian and Yong Li and Yongjun Bao and Zhiwei Fang and Hanqing Lu",
    venue="CVPR",
    year=2019,
    url="https://arxiv.org/abs/1809.02983",
    paper_site="stage",
    paper_stages=(-1,),
    parameters="2 * (C*h + h) + C * C + C + 1",
    where={"h": "reduced(C, reduction)"},
    inert={"key.bias": "adds the same to all similarities of a position, which a softmax does not see"},
    clamping="At least one inner channel.",
)


@attention("pam", PAPER)
class PositionAttention(nn.Module):
    """Add all positions' features, weighed by their similarity, times a learned number (eq. 1-2)."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        inner = reduced(channels, reduction)
        self.query, self.key = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.alpha = nn.Parameter(torch.zeros(1))  # starts as identity

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))  # B C N
        weights = (query.transpose(1, 2) @ key).softmax(2)  # B N N
        return laid_out(self.alpha * (value @ weights.transpose(1, 2)).reshape(x.shape) + x, x)
