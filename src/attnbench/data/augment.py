"""What augmentation does to an image: drawn from the seed, the epoch and the image's number, then done with numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from attnbench.seeding import stream

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


@dataclass(frozen=True)
class Draws:
    """What is done to each of B square images, in this order; None for what is not wanted."""

    shifts: np.ndarray | None = None
    """int64 B 2: how far the cropped square lies below and right of the image; black outside."""
    mirrored: np.ndarray | None = None
    """bool B: left to right."""
    senses: np.ndarray | None = None
    """int64 B: 0..7, the ways in which a square lies on itself; 0: as it is."""
    holes: np.ndarray | None = None
    """int64 B 2: row and column of the middle of what is cut out."""


def drawn(indices: np.ndarray, seed: int, epoch: int, names: Sequence[str], size: int) -> Draws:
    """The draws of images, which depend on nothing but the seed, the epoch and each image's own number.

    Args:
        indices: int64 B, each image's number in its data set.
        names: which augmentations are wanted: crop, flip, dihedral, cutout.
        size: side of the images in pixels.
    """
    if not names:
        return Draws()
    pad = max(1, size // 8)
    draws = uniform(stream(seed, "augment", epoch), indices, 5)  # B 5
    turns = uniform(stream(seed, "dihedral", epoch), indices, 1)[:, 0] if "dihedral" in names else None
    return Draws(
        shifts=(draws[:, :2] * (2 * pad + 1)).astype(np.int64) - pad if "crop" in names else None,
        mirrored=draws[:, 2] < 0.5 if "flip" in names else None,
        senses=None if turns is None else (8 * turns).astype(np.int64),
        holes=(draws[:, 3:] * size).astype(np.int64) if "cutout" in names else None,
    )


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
    size = images.shape[1]
    draws, hole, out = drawn(indices, seed, epoch, names, size), size // 2, images
    if draws.shifts is not None:
        out = np.zeros_like(images)
        for image, source, (down, right) in zip(out, images, draws.shifts.tolist(), strict=True):
            image[max(0, -down) : size - down, max(0, -right) : size - right] = source[
                max(0, down) : size + down, max(0, right) : size + right
            ]
    if (mirrored := draws.mirrored) is not None:
        out = out.copy() if out is images else out
        out[mirrored] = np.take(out[mirrored], np.arange(size)[::-1], axis=2)  # half the time of a negative step
    if draws.senses is not None:
        out = turned(out, draws.senses)
    if draws.holes is not None:
        out = out.copy() if out is images else out
        for image, (y, x) in zip(out, draws.holes, strict=True):
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
