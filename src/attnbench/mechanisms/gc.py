"""Global context: one attention-pooled context vector, added to (or scaling) every position."""

from typing import Literal

from torch import Tensor, nn

from attnbench.maps import pointwise
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
    authors="Yue Cao and Jiarui Xu and Stephen Lin and Fangyun Wei and Han Hu",
    venue="ICCV Workshops",
    year=2019,
    url="https://arxiv.org/abs/1904.11492",
    paper_site="block",
    paper_stages=(-3, -2, -1),
    parameters="C + 1 + 2*C*h + h + C + 2*h",
    where={"h": "reduced(C, reduction, 4)"},
    inert={"mask.bias": "a softmax over positions does not see what is the same at all of them"},
    deviations="The equations have no biases; the convolutions have those of the released code.",
    clamping="At least four hidden channels, since a layer norm over one value is constant and over two a sign.",
)


@attention("gc", PAPER)
class GlobalContext(nn.Module):
    """Add to every position an MLP of one context vector, pooled by a softmax over positions (eq. 5)."""

    def __init__(self, channels: int, reduction: int = 16, fuse: Literal["add", "scale"] = "add") -> None:
        super().__init__()
        hidden = reduced(channels, reduction, least=4)
        self.scales = fuse == "scale"
        self.mask = nn.Conv2d(channels, 1, 1)
        self.fc = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )
        for parameter in (*self.mask.parameters(), *self.fc[-1].parameters()):  # as released: adds nothing at first
            nn.init.zeros_(parameter)
        nn.init.kaiming_normal_(self.mask.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        weights = self.mask(x).flatten(2).softmax(-1)  # B 1 N
        context = x.flatten(2) @ weights.transpose(1, 2)  # B C 1
        enter, norm, relu, leave = self.fc
        term = pointwise(leave, relu(norm(pointwise(enter, context[..., None]))))  # B C 1 1
        return x * term.sigmoid() if self.scales else x + term
