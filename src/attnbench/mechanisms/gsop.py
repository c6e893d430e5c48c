"""Global second-order pooling: a channel gate from the covariance of reduced channels."""

from typing import Literal

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Global Second-order Pooling Convolutional Networks",
    authors="Zilin Gao and Jiangtao Xie and Qilong Wang and Peihua Li",
    venue="CVPR",
    year=2019,
    url="https://arxiv.org/abs/1811.12006",
    gate=(0.0, 1.0),
    parameters="C*d + 4*d + 4*d*d + 4*d + 4*d*C + C",
    where={"d": "min(C, dim)"},
    deviations="The paper has a LeakyReLU behind the row-wise convolution. The released channel attention has none, "
    'and rectifies its input first (variant="official"); in its first stage it also strides the reduction by 2, '
    "which is left out, as is the reduction's bias, which the batch norm behind it takes away. The released "
    "networks have the block in the last residual branch of each stage only.",
    clamping="At most as many reduced channels as there are channels. On a map of one position the covariance is 0.",
)


@attention("gsop", PAPER)
class GSoP(nn.Module):
    """Gate each channel by a row-wise convolution over the covariance matrix of `dim` reduced channels (section 3)."""

    def __init__(self, channels: int, dim: int = 128, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim={dim} must be at least 1")
        dim, official = min(channels, dim), variant == "official"
        self.rectify = nn.ReLU() if official else nn.Identity()
        reduction = nn.Conv2d(channels, dim, 1, bias=False)
        self.reduce = nn.Sequential(reduction, nn.BatchNorm2d(dim), nn.ReLU())
        self.row_norm = nn.BatchNorm2d(dim)
        self.row_conv = nn.Conv2d(dim, 4 * dim, (dim, 1), groups=dim)
        self.activation = nn.Identity() if official else nn.LeakyReLU(0.1)
        self.expand = nn.Conv2d(4 * dim, channels, 1)
        for conv in (reduction, self.row_conv, self.expand):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as released

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        rows = self.row_norm(covariance(self.reduce(self.rectify(x)))[..., None])  # B D D 1
        return self.expand(self.activation(self.row_conv(rows))).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def covariance(x: Tensor) -> Tensor:
    """The channels' covariance over positions, B C C."""
    centred = x.flatten(2) - x.flatten(2).mean(2, keepdim=True)  # B C N
    return centred @ centred.transpose(1, 2) / centred.shape[2]
