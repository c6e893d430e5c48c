"""S2-MLPv2's attention: three copies of the channels, two of them shifted by a pixel, are mixed by split attention."""

import torch
from torch import Tensor, nn

from attnbench.maps import narrow, pointwise, wide
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="S$^2$-MLPv2: Improved Spatial-Shift MLP Architecture for Vision",
    authors="Tan Yu and Xu Li and Yunfeng Cai and Mingming Sun and Ping Li",
    venue="arXiv",
    year=2021,
    url="https://arxiv.org/abs/2108.01072",
    kind="R",
    paper_site="conv",
    parameters="3 * C * (C + 1) + 4 * C * reduced(C, reduction) + C * (C + 1)",
    deviations="It is a token mixer of an MLP without convolutions; here it stands in for a convolution. Positions are "
    "summed, not averaged, before the split attention's MLP, so the choice sharpens on larger maps. Implementations "
    "that shift in place write over rows they have yet to read, and smear the border over the map; here every shift is "
    "by one position.",
    clamping="At least one hidden channel. The last of the four groups of channels takes what is left over.",
)


@attention("s2", PAPER)
class SpatialShiftAttention(nn.Module):
    """Choose, channel by channel, among features shifted in two ways and left in place, by an MLP on their sum."""

    def __init__(self, channels: int, reduction: int = 1) -> None:
        super().__init__()
        hidden = reduced(channels, reduction)
        self.expand = nn.Conv2d(channels, 3 * channels, 1)
        self.split = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.GELU(), nn.Conv2d(hidden, 3 * channels, 1, bias=False)
        )
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.expand(x).chunk(3, dim=1)
        parts = torch.stack([_shifted(first, (2, 3)), _shifted(second, (3, 2)), third], dim=1)  # B 3 C H W
        total = wide(parts.sum(1)).sum((2, 3), keepdim=True)  # beyond float16 on large maps
        enter, gelu, leave = self.split
        logits = pointwise(leave, gelu(pointwise(enter, total))).reshape(x.shape[0], 3, -1, 1, 1)
        shares = narrow(logits.softmax(1), x)
        return self.project((parts * shares).sum(1))


def _shifted(x: Tensor, dims: tuple[int, int]) -> Tensor:
    """A quarter of the channels moved each way along the first axis, then along the second; the border stays."""
    quarter = x.shape[1] // 4
    groups = x.split([quarter, quarter, quarter, x.shape[1] - 3 * quarter], dim=1)
    moved = [_moved(group, dims[place // 2], forward=place % 2 == 0) for place, group in enumerate(groups)]
    return torch.cat(moved, dim=1)


def _moved(x: Tensor, dim: int, forward: bool) -> Tensor:
    length = x.shape[dim]
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, length - 1, 1)
    if forward:
        return torch.cat([first, x.narrow(dim, 0, length - 1)], dim)
    return torch.cat([x.narrow(dim, 1, length - 1), last], dim)
