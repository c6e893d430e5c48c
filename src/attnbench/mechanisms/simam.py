"""SimAM: a gate for every value from how far it lies from its map's mean; no parameters."""

from typing import Literal

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks",
    authors="Lingxiao Yang and Ru-Yuan Zhang and Lida Li and Xiaohua Xie",
    venue="ICML",
    year=2021,
    url="https://proceedings.mlr.press/v139/yang21o.html",
    gate=(0.622459, 1.0),
    parameters="0",
    deviations="The paper's variance divides by the number of positions M, the released code's by M - 1 "
    '(variant="official"; on a map of one position, where that is 0, by 1). The released ResNets have the module '
    "right behind the 3x3 convolution and before its batch norm.",
    clamping="On a map of one position the gate is sigmoid(1/2), its least value.",
)


@attention("simam", PAPER)
class SimAM(nn.Module):
    """Gate each value by the inverse of its minimal energy: far from its map's mean is salient (eq. 5-6)."""

    def __init__(
        self, channels: int, regularisation: float = 1e-4, variant: Literal["paper", "official"] = "paper"
    ) -> None:
        super().__init__()
        if not regularisation > 0:
            raise ValueError(f"regularisation={regularisation} must be above 0")
        self.regularisation, self.unbiased = regularisation, variant == "official"

    def gate(self, x: Tensor) -> Tensor:
        """The gate of every value, B C H W, from sigmoid(1/2) to 1."""
        distance = (x - x.mean((2, 3), keepdim=True)).square()
        positions = max(1, x.shape[2] * x.shape[3] - self.unbiased)
        variance = distance.sum((2, 3), keepdim=True) / positions
        return (distance / (4 * (variance + self.regularisation)) + 0.5).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
