"""The formula on a mechanism's card that counts its parameters, and the two rules for narrow layers that it may use."""

import math
from collections.abc import Mapping
from typing import Any

from attnbench.catalogue.cards import Paper

Size = tuple[int, int]


def reduced(channels: int, reduction: int, least: int = 1) -> int:
    """`channels // reduction`, but never below `least`: the one rule for bottlenecks in narrow layers.

    Raises:
        ValueError: a reduction below 1.
    """
    if reduction < 1:
        raise ValueError(f"reduction={reduction} must be at least 1")
    return max(least, channels // reduction)


def divisor(channels: int, groups: int) -> int:
    """The largest number of equal groups of `channels` that is at most `groups`: the one rule for groups.

    Raises:
        ValueError: fewer than one group.
    """
    if groups < 1:
        raise ValueError(f"groups={groups} must be at least 1")
    return next(number for number in range(min(groups, channels), 0, -1) if channels % number == 0)


def promised(card: Paper, options: Mapping[str, Any], channels: int, size: Size) -> int:
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
