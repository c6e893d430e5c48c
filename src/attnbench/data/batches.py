"""Batches: gathered, augmented and normalised whole, channels last; each a pure function of seed, epoch and index."""

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from attnbench import devices
from attnbench.data.augment import augmented, drawn, shrunk
from attnbench.data.placed import Placed, ahead
from attnbench.data.splits import Split
from attnbench.seeding import stream
from attnbench.spec.run import RunSpec

SMALL = 3 / 4
"""Side of the first epochs' images over the others', where a run is progressive."""


class Batches:
    """The batches of one split under one spec.

    A device with memory of its own holds all images, if they fit; else another thread makes the batches ahead.

    Args:
        split: where the images are.
        spec: batch size, seed and augmentation.
        constants: mean and standard deviation per channel, in 0..1.
        device: where the batches go.
        room: bytes that the images may take in the device's memory; None for what is free there, 0 on a CPU.
        part: which share of how many of each training batch is made, where several processes train one run.
    """

    def __init__(
        self,
        split: Split,
        spec: RunSpec,
        constants: tuple[tuple[float, ...], tuple[float, ...]],
        device: torch.device,
        room: int | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.split, self.spec, self.device, self.part = split, spec, device, part
        self._room = devices.room(device) if room is None else room
        self.labels = torch.from_numpy(split.labels)
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in constants)
        scale, shift = (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)
        self._rows = functools.cache(lambda width: (scale.repeat(width), shift.repeat(width)))  # long rows are quick
        self._fill = np.rint(np.array(constants[0]) * 255).astype(np.uint8)
        self._augment = spec.resolved.augmentations

    def steps(self) -> int:
        """Steps of an epoch; a last batch of one image is left out, since batch norm cannot train on it."""
        full, rest = divmod(len(self.split), self.spec.batch_size)
        return full + (rest > 1 or (rest == 1 and full == 0))

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Shuffled, augmented training batches of one epoch from step `first` on: (step, B C H W, B)."""
        order = np.random.default_rng(stream(self.spec.seed_of("order"), "order", epoch)).permutation(len(self.split))
        size = self.spec.batch_size
        batches = [order[step * size :][:size] for step in range(first, self.steps())]
        mine = [batch[share(len(batch), *self.part)] for batch in batches]
        side = training_side(self.spec, epoch, self.split.source.images.shape[1])
        placed = self._placed
        made = self._drawn_there(placed, mine, epoch, side) if placed else self._drawn_here(mine, epoch, side)
        for step, (images, labels) in enumerate(made, first):
            yield step, self._normalised(images), labels

    def plain(self, size: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """All images from the `first` on, in order and as they are, in batches of `size`: (B C H W, B)."""
        chosen = [slice(start, start + size) for start in range(first, len(self.split), size)]
        if placed := self._placed:
            made: Iterator[tuple[Tensor, Tensor]] = ((placed.images[some], placed.labels[some]) for some in chosen)
        else:
            source, indices = self.split.source.images, self.split.indices
            made = self._sent((torch.from_numpy(source[indices[some]]), self.labels[some]) for some in chosen)
        for images, labels in made:
            yield self._normalised(images), labels

    @functools.cached_property
    def _placed(self) -> Placed | None:
        """The images on the device, from the first batch on; None where they do not fit."""
        height, width, channels = self.split.source.images.shape[1:]
        if len(self.split) * height * width * channels > self._room:
            return None
        try:
            return Placed(self.split.source.images[self.split.indices], self.split.labels, self._fill, self.device)
        except (RuntimeError, MemoryError) as problem:  # another process may have taken what was free
            if not devices.out_of_memory(problem):
                raise
            return None

    def _drawn_here(self, batches: list[np.ndarray], epoch: int, side: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches made by the CPU, uint8 B H W C and B."""
        seed = self.spec.seed_of("augment")

        def made() -> Iterator[tuple[Tensor, Tensor]]:
            for places in batches:
                indices = self.split.indices[places]
                images = augmented(self.split.source.images[indices], indices, seed, epoch, self._augment, self._fill)
                if side != images.shape[1]:
                    images = shrunk(images, side)
                yield torch.from_numpy(images), self.labels[places]

        return self._sent(made())

    def _sent(self, made: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the CPU on the device: for another one made and sent ahead, by a thread of their own."""
        return made if self.device.type == "cpu" else ahead(made, self.device)

    def _drawn_there(
        self, placed: Placed, batches: list[np.ndarray], epoch: int, side: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The same batches, made by the device from the images that it holds."""
        seed, size, order = self.spec.seed_of("augment"), self.split.source.images.shape[1], np.concatenate(batches)
        draws = drawn(self.split.indices[order], seed, epoch, self._augment, size)
        return placed.batches(order, draws, side, [len(batch) for batch in batches])

    def _normalised(self, images: Tensor) -> Tensor:
        """uint8 B H W C to float32 B C H W in channels-last memory, without a copy for the layout."""
        batch = images.to(self.device, torch.float32)
        scale, shift = self._rows(images.shape[2])
        batch.flatten(2).mul_(scale).add_(shift)
        return batch.permute(0, 3, 1, 2)


def share(images: int, part: int, parts: int) -> slice:
    """Which of the images of a batch one of several processes takes: all, where fewer than two each would be left."""
    return slice(part * images // parts, (part + 1) * images // parts) if images >= 2 * parts else slice(0, images)


def training_side(spec: RunSpec, epoch: int, side: int) -> int:
    """Side in pixels of an epoch's training images: smaller in the first ones, if the spec says so."""
    return side if epoch >= round(spec.progressive * spec.epochs) else max(4, round(SMALL * side))
