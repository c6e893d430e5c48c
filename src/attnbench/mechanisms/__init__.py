"""The mechanisms, one file each; from here such a file imports its card, its decorator, and other mechanisms."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from attnbench.catalogue.cards import Paper
from attnbench.catalogue.formula import Size, divisor, reduced
from attnbench.catalogue.registry import ATTENTION, Choice

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Paper", "Size", "attention", "build_attention", "divisor", "reduced"]

T = TypeVar("T")


def attention(name: str, card: Paper) -> Callable[[type[T]], type[T]]:
    """Register a class as the mechanism called `name`; its first argument is the number of channels.

    Our own files are found by the registry; elsewhere the decorator adds the class for this process.
    """

    def register(cls: type[T]) -> type[T]:
        ATTENTION.add(name, card, cls)
        return cls

    return register


def build_attention(attention: str | Choice[Paper], channels: int, size: Size | None = None) -> "nn.Module":
    """Build one mechanism for maps of `channels` channels and, where it asks, of `size` (h, w) pixels.

    Args:
        attention: a reference, or what one asks for.

    Raises:
        BadReference: an unknown name or option, or a value the module refuses.
    """
    choice = ATTENTION.resolve(attention) if isinstance(attention, str) else attention
    sized = {"size": size} if "size" in choice.entry.arguments and size is not None else {}
    module: nn.Module = choice.construct(channels, **sized)
    return module
