"""Batches: gathered, augmented and normalised whole, channels last; each a pure function of seed, epoch and index."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbench.data.splits import Split
from attnbench.seeding import stream
from attnbench.spec.run import RunSpec

SMALL = 3 / 4
"""Side of the first epochs' images over the others', where a run is progressive."""
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class Batches:
    """The batches of one split under one spec.

    Args:
        split: where the images are.
        spec: batch size, seed and augmentation.
        constants: mean and standard deviation per channel, in 0..1.
        device: where the batches go.
    """

    def __init__(
        self,
        split: Split,
        spec: RunSpec,
        constants: tuple[tuple[float, ...], tuple[float, ...]],
        device: torch.device,
    ) -> None:
        self.split, self.spec, self.device = split, spec, device
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
        side = training_side(self.spec, epoch, self.split.source.images.shape[1])
        seed = self.spec.seed_of("augment")
        for step in range(first, self.steps()):
            places = order[step * self.spec.batch_size : (step + 1) * self.spec.batch_size]
            indices = self.split.indices[places]
            images = augmented(self.split.source.images[indices], indices, seed, epoch, self._augment, self._fill)
            if side != images.shape[1]:
                images = shrunk(images, side)
            yield step, self._normalised(images), self.labels[places].to(self.device, non_blocking=True)

    def plain(self, size: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """All images from the `first` on, in order and as they are, in batches of `size`: (B C H W, B)."""
        for start in range(first, len(self.split), size):
            images = self.split.source.images[self.split.indices[start : start + size]]
            yield self._normalised(images), self.labels[start : start + size].to(self.device)

    def _normalised(self, images: np.ndarray) -> Tensor:
        """uint8 B H W C to float32 B C H W in channels-last memory, without a copy for the layout."""
        batch = torch.from_numpy(images).to(self.device, torch.float32)
        scale, shift = self._rows(images.shape[2])
        batch.flatten(2).mul_(scale).add_(shift)
        return batch.permute(0, 3, 1, 2)


def training_side(spec: RunSpec, epoch: int, side: int) -> int:
    """Side in pixels of an epoch's training images: smaller in the first ones, if the spec says so."""
    return side if epoch >= round(spec.progressive * spec.epochs) else max(4, round(SMALL * side))


def shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Bilinear with antialiasing, uint8 B H W C both times."""
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    small = F.interpolate(batch, (side, side), mode="bilinear", antialias=True)
    return np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy())


def augmented(
    images: np.ndarray, indices: np.ndarray, seed: int, epoch: int, names: Sequence[str], fill: np.ndarray
) -> np.ndarray:
    """Crop (after padding by an eighth with black), flip or turn, and cut out (half the side), each by its own draws.

    Args:
        images: uint8 B H W C; not changed.
        indices: int64 B, each image's number in its data set: the draws depend on it, not on the batch.
        seed, epoch: the other two things the draws depend on.
        names: which augmentations are wanted.
        fill: uint8 C, the colour of what is cut out.
    """
    if not names:
        return images
    size = images.shape[1]
    pad, hole = max(1, size // 8), size // 2
    draws = uniform(stream(seed, "augment", epoch), indices, 5)  # B 5
    out = images
    if "crop" in names:
        shifts = (draws[:, :2] * (2 * pad + 1)).astype(np.intp) - pad
        out = np.zeros_like(images)
        for image, source, (down, right) in zip(out, images, shifts.tolist(), strict=True):
            image[max(0, -down) : size - down, max(0, -right) : size - right] = source[
                max(0, down) : size + down, max(0, right) : size + right
            ]
    if "flip" in names:
        mirrored = draws[:, 2] < 0.5
        out = out.copy() if out is images else out
        out[mirrored] = np.take(out[mirrored], np.arange(size)[::-1], axis=2)  # half the time of a negative step
    if "dihedral" in names:
        out = turned(out, (8 * uniform(stream(seed, "dihedral", epoch), indices, 1)[:, 0]).astype(np.intp))
    if "cutout" in names:
        out = out.copy() if out is images else out
        for image, (y, x) in zip(out, (draws[:, 3:] * size).astype(np.intp), strict=True):
            image[max(0, y - hole // 2) : y + hole // 2, max(0, x - hole // 2) : x + hole // 2] = fill
    return out


def turned(images: np.ndarray, senses: np.ndarray) -> np.ndarray:
    """Square images B S S C, each in one of the eight ways in which a square lies on itself (B, 0..7; 0: as it is)."""
    out = images.copy()
    for sense in range(1, 8):
        chosen = senses == sense
        part = images[chosen]
        part = part[:, ::-1] if sense & 1 else part
        part = part[:, :, ::-1] if sense & 2 else part
        out[chosen] = part.swapaxes(1, 2) if sense & 4 else part
    return out


def uniform(seed: int, indices: np.ndarray, count: int) -> np.ndarray:
    """`count` numbers in [0, 1) for each index: SplitMix64 (Steele et al. 2014) as a counter, so order is nothing."""
    with np.errstate(over="ignore"):
        counters = indices.astype(np.uint64)[:, None] * np.uint64(count) + np.arange(1, count + 1, dtype=np.uint64)
        z: np.ndarray = np.uint64(seed & _MASK) + counters * np.uint64(_GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)).astype(np.float64) / 2**53
