"""What a mechanism's file may import from us: its card's type and the decorator that registers it."""

from collections.abc import Callable
from typing import TypeVar

from attnbench.cards import Paper
from attnbench.registry import ATTENTION

__all__ = ["Paper", "attention"]

T = TypeVar("T")


def attention(name: str, card: Paper) -> Callable[[type[T]], type[T]]:
    """Register a class as the mechanism called `name`; its first argument is the number of channels.

    Our own files are found by the registry; elsewhere the decorator adds the class for this process.
    """

    def register(cls: type[T]) -> type[T]:
        ATTENTION.add(name, card, cls)
        return cls

    return register
