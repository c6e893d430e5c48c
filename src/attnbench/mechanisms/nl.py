"""Non-local block: every position sums the features of all positions, weighed by their similarity."""

from typing import Literal

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="Non-local Neural Networks",
    authors="Xiaolong Wang and Ross Girshick and Abhinav Gupta and Kaiming He",
    venue="CVPR",
    year=2018,
    url="https://arxiv.org/abs/1711.07971",
    paper_site="post",
    paper_stages=(-3, -2),
    paper_every=2,
    parameters="(4 if mode != 'gaussian' else 2) * C * h + (3 if mode != 'gaussian' else 1) * h + C + 2 * C",
    where={"h": "reduced(C, reduction)"},
    inert={
        "value.bias": "a constant that every position gets, since weights sum to 1: the batch norm takes it away again",
        "out.bias": "a constant in front of a batch norm",
        "key.bias": "adds the same to the similarities of a position to all others, which a softmax does not see",
    },
    deviations="The released code divides similarities in front of a softmax by the square root of the inner width "
    '(variant="official"), and takes keys and values from a 2x2 max pooling, which is left out. The equations do '
    "neither.",
    clamping="At least one inner channel.",
)


@attention("nl", PAPER)
class NonLocal(nn.Module):
    """Add to each position all positions' features, weighed by their similarity to it (eq. 1-6)."""

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        mode: Literal["embedded", "gaussian", "dot"] = "embedded",
        variant: Literal["paper", "official"] = "paper",
    ) -> None:
        super().__init__()
        inner = reduced(channels, reduction)
        self.mode, self.scale = mode, inner**-0.5 if variant == "official" else 1.0
        self.query = nn.Identity() if mode == "gaussian" else nn.Conv2d(channels, inner, 1)
        self.key = nn.Identity() if mode == "gaussian" else nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)  # starts as identity (section 4.1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))  # B C N
        similar = query.transpose(1, 2) @ key  # B N N
        weights = similar / similar.shape[-1] if self.mode == "dot" else (similar * self.scale).softmax(-1)
        mixed = value @ weights.transpose(1, 2)  # B C N
        return x + self.norm(self.out(mixed.reshape(*mixed.shape[:2], *x.shape[2:])))
