"""Controls: what part of a gain has nothing to do with attention."""

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

CONSTANT = Paper(title="A constant in place of the gate", control=True, parameters="0")


@attention("constant", CONSTANT)
class Constant(nn.Module):
    """Multiply by one constant: the scale that a gate starts with, without the gate."""

    def __init__(self, channels: int, value: float = 0.5) -> None:
        super().__init__()
        self.value = value

    def gate(self, x: Tensor) -> Tensor:
        """The constant as a gate of shape 1 1 1 1."""
        return torch.full((1, 1, 1, 1), self.value, dtype=x.dtype, device=x.device)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value
