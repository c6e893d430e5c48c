"""The data sets, one file each, and how images become splits and batches; from here such a file imports its card."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from attnbench.catalogue.cards import Source
from attnbench.catalogue.registry import DATASETS

__all__ = ["Raw", "Source", "dataset"]

T = TypeVar("T", bound=Callable[..., object])


class Raw(NamedTuple):
    """A split as its reader gives it; the cache decodes and resizes."""

    images: np.ndarray | Sequence[Path]
    """uint8 N H W C (or N H W), or the image files."""
    labels: Sequence[int] | np.ndarray
    """Class numbers from 0."""
    names: Sequence[str] = ()
    """Class names, if there are any; those on the card go before them."""
    left_out: Sequence[str] = ()
    """Endings of the files that were left out, one each, `.txt`."""


def dataset(name: str, card: Source) -> Callable[[T], T]:
    """Register a function `(root, split, **options) -> Raw` (or a plain pair) as the data set called `name`."""

    def register(function: T) -> T:
        DATASETS.add(name, card, function)
        return function

    return register
