"""The backbones, one file for each family; from here such a file imports its card and its decorator."""

from collections.abc import Callable
from typing import TypeVar

from attnbench.catalogue.cards import Backbone
from attnbench.catalogue.refs import nearest
from attnbench.catalogue.registry import BACKBONES

__all__ = ["Backbone", "backbone", "nearest"]

T = TypeVar("T", bound=Callable[..., object])


def backbone(name: str, card: Backbone) -> Callable[[T], T]:
    """Register a function `(classes, in_channels, **options) -> nn.Module` as the backbone called `name`."""

    def register(function: T) -> T:
        BACKBONES.add(name, card, function)
        return function

    return register
