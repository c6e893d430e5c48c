"""Stand-alone self-attention: each position attends to its neighbourhood only, by content and relative position."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out
from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="Stand-Alone Self-Attention in Vision Models",
    authors="Prajit Ramachandran and Niki Parmar and Ashish Vaswani and Irwan Bello and Anselm Levskaya and "
    "Jonathon Shlens",
    venue="NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1906.05909",
    kind="R",
    paper_site="conv",
    parameters="3 * C * C + kernel * C",
    deviations="Neighbours beyond the border are left out of the softmax.",
    clamping="As many heads as leave two channels to each, at most `heads`. The number of channels must be even.",
)


@attention("sasa", PAPER)
class LocalSelfAttention(nn.Module):
    """Sum a neighbourhood's values, weighed by content and by row and column distance (eq. 2-3)."""

    def __init__(self, channels: int, kernel: int = 7, heads: int = 8) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        if channels % 2:
            raise ValueError(f"channels={channels} must be even: half tell rows, half columns")
        self.kernel, self.heads = kernel, divisor(channels // 2, heads)
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1, bias=False) for _ in range(3))
        half = channels // self.heads // 2
        self.rows = nn.Parameter(torch.randn(self.heads, half, kernel, 1))
        self.columns = nn.Parameter(torch.randn(self.heads, half, 1, kernel))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).reshape(x.shape[0], self.heads, -1, x.shape[2] * x.shape[3])  # B h c N
        key, value = self._around(self.key(x)), self._around(self.value(x))  # B h c KK N
        logits = torch.einsum("bhcn,bhckn->bhkn", query, key)
        logits = logits + torch.einsum("bhcn,hck->bhkn", query, self._distances())
        outside = F.unfold(torch.ones_like(x[:1, :1]), self.kernel, padding=self.kernel // 2) == 0  # 1 KK N
        weights = logits.masked_fill(outside.unsqueeze(1), float("-inf")).softmax(2)
        return laid_out(torch.einsum("bhkn,bhckn->bhcn", weights, value).reshape(x.shape), x)

    def _around(self, x: Tensor) -> Tensor:
        around = F.unfold(x, self.kernel, padding=self.kernel // 2)
        return around.reshape(x.shape[0], self.heads, -1, self.kernel**2, around.shape[2])

    def _distances(self) -> Tensor:
        """Half of each head's channels by the row, half by the column: h c KK."""
        both = [each.expand(-1, -1, self.kernel, self.kernel) for each in (self.rows, self.columns)]
        return torch.cat(both, dim=1).flatten(2)
