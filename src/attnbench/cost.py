"""What a network costs: parameters and multiply-accumulates."""

import copy
import math
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnbench.cards import Paper
from attnbench.mechanisms import Size, divisor, reduced


def cost(model: nn.Module, image: tuple[int, int, int]) -> dict[str, int]:
    """Parameters, and multiply-accumulates of one image's forward pass.

    Counted on the `meta` device, where matrix products and functional attention are seen too.

    Args:
        image: (channels, height, width).
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ghost(torch.empty(1, *image, device="meta"))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": counter.get_total_flops() // 2,
    }


def promised(card: Paper, options: dict[str, Any], channels: int, size: Size) -> int:
    """The number of parameters by the card's formula."""
    names: dict[str, Any] = {"C": channels, "H": size[0], "W": size[1], **options, **_FUNCTIONS}
    for name, expression in card.where.items():
        names[name] = _value(expression, names)
    return int(_value(card.parameters, names))


_FUNCTIONS: dict[str, Any] = {
    function.__name__: function
    for function in (abs, int, len, max, min, round, sum, math.ceil, math.floor, math.log2, math.sqrt, reduced, divisor)
}


def _value(expression: str, names: dict[str, Any]) -> Any:
    """A card's expression; a card is code that somebody has already chosen to run."""
    return eval(expression, {"__builtins__": {}, **names})
