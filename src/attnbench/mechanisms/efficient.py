"""Efficient attention: keys become weights over positions, so that no position is compared with any other."""

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor, reduced

PAPER = Paper(
    title="Efficient Attention: Attention with Linear Complexities",
    authors="Zhuoran Shen and Mingyuan Zhang and Haiyu Zhao and Shuai Yi and Hongsheng Li",
    venue="WACV",
    year=2021,
    url="https://arxiv.org/abs/1812.01243",
    paper_site="post",
    paper_stages=(-3, -2),
    paper_every=2,
    parameters="3 * (C*h + h) + h*C + C",
    where={"h": "divisor(C, heads) * reduced(reduced(C, 2), divisor(C, heads))"},
    inert={"key.bias": "a softmax over positions does not see what it adds to all of them"},
    clamping="As many heads as the channels allow, at most `heads`; at least one channel to a head.",
)


@attention("efficient", PAPER)
class EfficientAttention(nn.Module):
    """Add softmax(queries) times the global contexts that softmax(keys) gathers from the values (eq. 4-5)."""

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = divisor(channels, heads)
        inner = self.heads * reduced(reduced(channels, 2), self.heads)
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[0], self.heads, -1, x.shape[2] * x.shape[3]
        query, key, value = (part(x).reshape(shape) for part in (self.query, self.key, self.value))  # B h c N
        context = key.softmax(3) @ value.transpose(2, 3)  # B h c c
        attended = context.transpose(2, 3) @ query.softmax(2)
        return x + self.out(attended.reshape(x.shape[0], -1, *x.shape[2:]))
