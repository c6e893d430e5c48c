"""Axial attention: multi-head self-attention along the rows, and along the columns, summed."""

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="Axial Attention in Multidimensional Transformers",
    authors="Jonathan Ho and Nal Kalchbrenner and Dirk Weissenborn and Tim Salimans",
    venue="arXiv",
    year=2019,
    url="https://arxiv.org/abs/1912.12180",
    parameters="2 * (3 * C * C + C * C + C)",
    deviations="The layer of the image case, without the transformer's norms; the two directions are summed, as in "
    "common implementations, and added to the input.",
    clamping="As many heads as the channels allow, at most `heads`.",
)


@attention("axial", PAPER)
class AxialAttention(nn.Module):
    """Add multi-head self-attention within each row and within each column (section 3)."""

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        heads = divisor(channels, heads)
        self.rows, self.columns = _Line(channels, heads), _Line(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        along_rows = self.rows(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        along_columns = self.columns(x.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
        return x + along_rows + along_columns


class _Line(nn.Module):
    """Self-attention over the last but one axis of B L N C."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, lines, length, channels = x.shape
        parts = self.qkv(x).reshape(batch, lines, length, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5).unbind(0)  # B L heads N C/heads
        weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
        return self.out((weights @ value).transpose(2, 3).reshape(x.shape))
