"""ACmix: one set of 1x1 projections feeds both a local self-attention and a convolution, which are added."""

import torch
from torch import Tensor, nn

from attnbench.maps import laid_out
from attnbench.mechanisms import Paper, attention, divisor
from attnbench.mechanisms.san import coordinates, neighbours

PAPER = Paper(
    title="On the Integration of Self-Attention and Convolution",
    authors="Xuran Pan and Chunjiang Ge and Rui Lu and Shiji Song and Guanfu Chen and Zeyi Huang and Gao Huang",
    venue="CVPR",
    year=2022,
    url="https://arxiv.org/abs/2111.14556",
    kind="R",
    paper_site="conv",
    parameters="3 * (C + 1) * C + 3 * C // h + 3 * h * kernel**2 + C * kernel**4 + 2",
    where={"h": "divisor(C, heads)"},
    inert={"place.bias": "cancels in the difference of two places"},
    deviations="The equations have no positions; as in the released code, differences of mapped coordinates are added "
    "to the keys, neighbours beyond the border are reflected, and the shifts are a grouped convolution without a bias "
    "whose kernels learn. Its ResNet draws those kernels anew; here they start as shifts, as its layer does.",
    clamping="As many heads as the channels allow, at most `heads`. Small maps are reflected as often as needed.",
)


@attention("acmix", PAPER)
class ACmix(nn.Module):
    """Add local self-attention and a convolution by shifts of the same queries, keys and values (section 4)."""

    def __init__(self, channels: int, window: int = 7, heads: int = 4, kernel: int = 3, mix: float = 0.5) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0 or kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"window={window} and kernel={kernel} must be odd")
        self.heads, self.window = divisor(channels, heads), window
        depth = channels // self.heads
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.place = nn.Conv2d(2, depth, 1)
        self.expand = nn.Conv2d(3 * self.heads, kernel**2, 1, bias=False)
        self.shift = nn.Conv2d(kernel**2 * depth, channels, kernel, padding=kernel // 2, groups=depth, bias=False)
        self.attended, self.convolved = nn.Parameter(torch.tensor([mix])), nn.Parameter(torch.tensor([mix]))
        with torch.no_grad():  # the n-th of a group's maps is seen at the n-th place of the kernel
            self.shift.weight.copy_(torch.eye(kernel**2).reshape(1, -1, kernel, kernel).expand_as(self.shift.weight))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        attended, convolved = self._attend(query, key, value), self._convolve(query, key, value)
        return laid_out(self.attended * attended + self.convolved * convolved, x)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        place = self.place(coordinates(query))
        apart = place.flatten(2).unsqueeze(2) - neighbours(place, self.window)  # 1 c KK N
        keys, values = (neighbours(each, self.window).unflatten(1, (self.heads, -1)) for each in (key, value))
        queries = query.reshape(query.shape[0], self.heads, -1, query.shape[2] * query.shape[3])  # B h c N
        logits = torch.einsum("bhcn,bhckn->bhkn", queries, keys + apart) * queries.shape[2] ** -0.5
        return torch.einsum("bhkn,bhckn->bhcn", logits.softmax(2), values).reshape(query.shape)

    def _convolve(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        maps = torch.cat([each.unflatten(1, (self.heads, -1)).flatten(2, 3) for each in (query, key, value)], 1)
        maps = self.expand(maps)  # B KK cH W
        maps = maps.reshape(maps.shape[0], maps.shape[1], -1, *query.shape[2:]).transpose(1, 2)
        return self.shift(maps.flatten(1, 2))
