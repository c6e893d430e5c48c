"""Controls: what part of a gain has nothing to do with attention."""

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, Size, attention, build_attention

CONSTANT = Paper(title="A constant in place of the gate", control=True, parameters="0")
STATIC = Paper(title="One learned scale per channel in place of the gate", control=True, parameters="C")
RANDOM = Paper(
    title="Another mechanism, never trained",
    control=True,
    nested=("of",),
    deviations="Where the mechanism has few hidden units they may all be dead as drawn, and the gate is a constant "
    "there: SE has a single one at 16 channels.",
    inert={"frozen.*": "frozen as it was drawn: what is left is to look at the input without learning how"},
)


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


@attention("static", STATIC)
class Static(nn.Module):
    """Multiply each channel by a learned scale that starts at `value`: parameters without a look at the input."""

    def __init__(self, channels: int, value: float = 0.5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, channels, 1, 1), value))

    def gate(self, x: Tensor) -> Tensor:
        """The scales as a gate of shape 1 C 1 1."""
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@attention("random", RANDOM)
class Random(nn.Module):
    """Apply another mechanism with its parameters frozen as they were drawn: input dependence without learning."""

    def __init__(self, channels: int, of: str = "se", size: Size | None = None) -> None:
        super().__init__()
        self.frozen = build_attention(of, channels, size).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x)
