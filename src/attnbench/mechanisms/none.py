"""No attention: the arm that every other one is compared with."""

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

NONE = Paper(title="The plain network", control=True, parameters="0")


@attention("none", NONE)
class NoAttention(nn.Module):
    """Pass the features on unchanged; in a network nothing is grafted at all."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
