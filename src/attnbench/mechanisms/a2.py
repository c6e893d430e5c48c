"""Double attention: gather features of the whole map into a few vectors, then distribute them to every position."""

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="A^2-Nets: Double Attention Networks",
    authors="Yunpeng Chen and Yannis Kalantidis and Jianshu Li and Shuicheng Yan and Jiashi Feng",
    venue="NeurIPS",
    year=2018,
    url="https://arxiv.org/abs/1810.11579",
    paper_site="post",
    paper_stages=(-3, -2),
    paper_every=2,
    parameters="C * (m + 2 * n) + m + 2 * n + m * C + C",
    where={"m": "reduced(C, reduction)", "n": "reduced(C, reduction)"},
    inert={"attend.bias": "a softmax over positions does not see what it adds to all of them"},
    deviations="The paper adds the block to the network; the residual connection is here part of it.",
    clamping="At least one feature and one attention map.",
)


@attention("a2", PAPER)
class DoubleAttention(nn.Module):
    """Add to each position a mix of globally gathered feature vectors, chosen by its own attention (eq. 1-6)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        inner = reduced(channels, reduction)
        self.feature = nn.Conv2d(channels, inner, 1)  # phi
        self.attend = nn.Conv2d(channels, inner, 1)  # theta: where to gather
        self.distribute = nn.Conv2d(channels, inner, 1)  # rho: what each position takes
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.feature(x).flatten(2)  # B M N
        where = self.attend(x).flatten(2).softmax(2)  # B n N
        chosen = self.distribute(x).flatten(2).softmax(1)  # B n N
        gathered = features @ where.transpose(1, 2)  # B M n
        return x + self.out((gathered @ chosen).reshape(x.shape[0], -1, *x.shape[2:]))
