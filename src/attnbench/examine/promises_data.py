"""What every data set promises, so that its runs can be repeated and believed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from attnbench.catalogue.cards import Source
from attnbench.catalogue.registry import Choice
from attnbench.data import Raw
from attnbench.data.decode import read
from attnbench.data.splits import Splits, duplicates, load_splits
from attnbench.spec.run import RunSpec

SIDE = 32
"""Pixels a side, where neither the card nor the files say one."""


@dataclass(frozen=True)
class DataSubject:
    """A data set under test, in a data folder."""

    dataset: Choice[Source]
    root: Path

    def raw(self, split: str) -> Raw:
        """A split as its function gives it."""
        return read(self.dataset.entry, self.dataset.options, split, self.root)

    @property
    def names(self) -> list[str]:
        """The splits that its function reads: those on its card, less those that are cut from the training images."""
        folders, options = self.dataset.card.folders, self.dataset.options
        return [split for split in self.dataset.card.splits if split not in folders or options.get(folders[split])]

    @cached_property
    def splits(self) -> Splits:
        """What a run of it sees."""
        size = self.dataset.card.image_size or SIDE
        return load_splits(RunSpec(dataset=str(self.dataset), image_size=size), self.root)


def _reads(subject: DataSubject) -> Iterator[str]:
    for split in subject.names:
        found, promised = len(subject.raw(split).labels), subject.dataset.card.images.get(split)
        if promised not in (None, found):
            yield f"{split} has {found:,} images; its card says {promised:,}"


def _has_labels(subject: DataSubject) -> Iterator[str]:
    for split in subject.names:
        labels = np.asarray(subject.raw(split).labels)
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
            yield f"{split}: labels are whole numbers from 0, not {labels.dtype} from {labels.min()}"
    classes = subject.dataset.card.classes or subject.splits.classes
    for part in (subject.splits.train, subject.splits.scored):
        seen = set(part.labels.tolist())
        if max(seen) >= classes:
            yield f"{part.name}: label {max(seen)} for {classes} classes"
        if part.name == "train" and (absent := sorted(set(range(classes)) - seen)):
            yield f"no training image has the labels {', '.join(map(str, absent[:5]))}"


def _repeats(subject: DataSubject) -> Iterator[str]:
    for split in subject.names:
        one, two = subject.raw(split), subject.raw(split)
        if not np.array_equal(np.asarray(one.labels), np.asarray(two.labels)):
            yield f"{split}: read twice, it gives other labels"
        elif isinstance(one.images, np.ndarray) and not np.array_equal(one.images, np.asarray(two.images)):
            yield f"{split}: read twice, it gives other images"


def _is_decoded(subject: DataSubject) -> Iterator[str]:
    if len(subject.splits.scored) < 1:
        yield "there is no test image"


def _shares_nothing(subject: DataSubject) -> Iterator[str]:
    pairs = duplicates(subject.splits)
    if pairs:
        yield f"{len(pairs)} images are in two splits, the first as {' and '.join(pairs[0])}"


PROMISES: dict[str, Callable[[DataSubject], Iterator[str]]] = {
    "reads every split that its card names": _reads,
    "has whole labels from 0, and every class among the training images": _has_labels,
    "gives the same images and labels each time": _repeats,
    "is decoded, and cut into splits": _is_decoded,
    "has no image in two splits": _shares_nothing,
}
"""What is promised, as a sentence -> the function that yields what breaks it."""
