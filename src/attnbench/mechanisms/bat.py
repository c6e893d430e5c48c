"""Grouped bilinear attentional transform: blocks of the map are mixed along rows and columns by matrices of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor, reduced

PAPER = Paper(
    title="Non-Local Neural Networks With Grouped Bilinear Attentional Transforms",
    authors="Lu Chi and Zehuan Yuan and Yadong Mu and Changhu Wang",
    venue="CVPR",
    year=2020,
    url="https://openaccess.thecvf.com/content_CVPR_2020/html/"
    "Chi_Non-Local_Neural_Networks_With_Grouped_Bilinear_Attentional_Transforms_CVPR_2020_paper.html",
    paper_site="post",
    paper_stages=(-3, -2),
    paper_every=2,
    parameters="2*C*h + 2*C + 4*h + h*h + h*g + 2*g + 2 * block**2 * g * (block*g + 1)",
    positions="a map is cut into `block` x `block` equal parts, and a matrix mixes the parts by their places",
    where={"h": "reduced(C, reduction)", "g": "divisor(h, groups)"},
    deviations="The defaults are those of the released code, whose dropout is for networks deeper than ResNet-34. Its "
    "convolutions in front of a batch norm have biases, which the norm takes away again: they are left out. It takes "
    "the number of blocks along a row from the map's height, so that it runs on square maps of whole blocks alone.",
    clamping="At least one inner channel, and as many groups as divide the inner channels, at most `groups`. A map is "
    "filled up to whole blocks with zeros at its bottom and right, where nothing is pooled, and cropped afterwards; "
    "below `block` pixels a side, some blocks are zeros alone.",
)


@attention("bat", PAPER)
class BilinearAttention(nn.Module):
    """Add P X Q: a map's blocks mixed by a row and a column matrix that its own maxima decide, for each group."""

    def __init__(
        self, channels: int, reduction: int = 2, block: int = 7, groups: int = 4, dropout: float = 0.2
    ) -> None:
        super().__init__()
        if block < 2:
            raise ValueError(f"block={block} must be at least 2")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be at least 0 and below 1")
        inner = reduced(channels, reduction)
        self.block, self.groups = block, divisor(inner, groups)
        self.enter, self.pool = _unit(channels, inner), _unit(inner, self.groups)
        self.rows = nn.Conv2d(self.groups, block * block * self.groups, (block, 1))
        self.columns = nn.Conv2d(self.groups, block * block * self.groups, (1, block))
        self.mix, self.leave = _unit(inner, inner), _unit(inner, channels)
        self.dropout = nn.Dropout2d(dropout)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")  # as released

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.leave(self.mix(self._transform(self.enter(x)))))

    def _transform(self, x: Tensor) -> Tensor:
        """P X Q for each group of channels: B C H W."""
        batch, channels, height, width = x.shape
        tall, wide = (-(-length // self.block) * self.block for length in (height, width))
        missing = (0, wide - width, 0, tall - height)
        left, right = self._matrices(F.pad(self.pool(x), missing))  # the zeros are no maxima: behind a ReLU
        x = F.pad(x, missing)
        y = x.reshape(batch, self.groups, channels // self.groups, self.block, -1)  # B G C/G s (H/s)W
        y = torch.einsum("bgij,bgcjn->bgcin", left, y)
        y = y.reshape(batch, self.groups, -1, self.block, wide // self.block)  # B G (C/G)H s W/s
        y = torch.einsum("bgcjn,bgjk->bgckn", y, right)
        return y.reshape(batch, channels, tall, wide)[:, :, :height, :width]

    def _matrices(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """P, whose rows sum to 1, and Q, whose columns do, from the maxima of rows and columns of blocks: B G s s."""
        batch, groups, tall, wide = pooled.shape
        rows = pooled.reshape(batch, groups, self.block, -1).amax(3)[:, :, :, None]  # B G s 1
        columns = pooled.reshape(batch, groups, tall, self.block, wide // self.block).amax((2, 4))[
            :, :, None
        ]  # B G 1 s
        shape = (batch, groups, self.block, self.block)
        left, right = self.rows(rows).reshape(shape).sigmoid(), self.columns(columns).reshape(shape).sigmoid()
        return left / left.sum(3, keepdim=True), right / right.sum(2, keepdim=True)


def _unit(inputs: int, outputs: int) -> nn.Sequential:
    """A 1x1 convolution, its batch norm and a ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
