"""Split attention: the channels' radix splits are weighed against each other by a softmax (ResNeSt)."""

from torch import Tensor, nn

from attnbench.maps import laid_out, mean
from attnbench.mechanisms import Paper, attention, divisor, reduced

PAPER = Paper(
    title="ResNeSt: Split-Attention Networks",
    authors="Hang Zhang and Chongruo Wu and Zhongyue Zhang and Yi Zhu and Haibin Lin and Zhi Zhang and Yue Sun and "
    "Tong He and Jonas Mueller and R. Manmatha and Mu Li and Alexander Smola",
    venue="CVPR Workshops",
    year=2022,
    url="https://arxiv.org/abs/2004.08955",
    kind="R",
    paper_site="conv",
    parameters="9 * C * C * radix // g + 2 * C * radix + C * h // k + h + 2 * h + h * C * radix // k + C * radix",
    where={
        "k": "divisor(C, cardinality)",
        "g": "k * radix if C % (k * radix) == 0 else k",
        "h": "max(k, reduced(C * radix, reduction, least) // k * k)",
    },
    inert={"attention.0.bias": "a constant in front of a batch norm"},
    deviations="Equation 2 of the paper is a softmax over the splits (a sigmoid at radix 1); biases in the two layers "
    "behind the pooling and the batch norm between them are those of the released code.",
    clamping="At least `least` hidden channels. Where the splits do not divide the channels, each of them sees all. "
    "A batch of one image is refused in training, by the batch norm behind the pooling.",
)


@attention("splat", PAPER)
class SplitAttention(nn.Module):
    """Convolve to `radix` feature maps and weigh them against each other for each channel (eq. 1-2)."""

    def __init__(
        self, channels: int, radix: int = 2, cardinality: int = 1, reduction: int = 4, least: int = 32
    ) -> None:
        super().__init__()
        if radix < 1:
            raise ValueError(f"radix={radix} must be at least 1")
        self.radix, self.cardinality = radix, divisor(channels, cardinality)
        groups = self.cardinality * radix
        groups = groups if channels % groups == 0 else self.cardinality
        wide = channels * radix
        hidden = reduced(wide, reduction, least) // self.cardinality * self.cardinality
        hidden = max(self.cardinality, hidden)
        self.conv = nn.Conv2d(channels, wide, 3, padding=1, groups=groups, bias=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(wide), nn.ReLU())
        self.attention = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, groups=self.cardinality),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, wide, 1, groups=self.cardinality),
        )

    def forward(self, x: Tensor) -> Tensor:
        splits = self.norm(self.conv(x)).reshape(x.shape[0], self.radix, -1, *x.shape[2:])  # B R C H W
        logits = self.attention(mean(splits.sum(1), (2, 3), keepdim=True))
        logits = logits.reshape(x.shape[0], self.cardinality, self.radix, -1).transpose(1, 2)  # B R K C/K
        weights = logits.softmax(1) if self.radix > 1 else logits.sigmoid()
        return laid_out((splits * weights.reshape(x.shape[0], self.radix, -1, 1, 1)).sum(1), x)
