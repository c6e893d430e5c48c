"""Images for a device with memory of its own: all of them there at once, or batches made ahead by another thread."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from attnbench import devices
from attnbench.data.augment import Draws

AHEAD = 3
"""Batches that wait for a device."""
TOGETHER = 1 << 21
"""Pixels of the batches that are made together."""


def ahead(batches: Iterator[tuple[Tensor, Tensor]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batches on a device, made by a thread of their own while the device computes.

    Besides those that wait for it, a device holds the batch that it computes on and the one before.
    """
    sender = devices.Sender(device)

    def sent(used: Callable[[], None]) -> Callable[[], tuple[Tensor, ...]] | None:
        used()
        made = next(batches, None)
        return made and sender.send(made[0].numpy(), made[1].numpy())

    used = sender.mark()
    with ThreadPoolExecutor(1, initializer=devices.mine, initargs=(device,)) as thread:
        waiting = deque(thread.submit(sent, used) for _ in range(AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(sent, used))
            images, labels = batch()
            yield images, labels
            used = sender.mark()


class Placed:
    """The images of a split in a device's memory, augmented there: what `augmented` and `shrunk` give, to the bit.

    Args:
        images: uint8 N S S C.
        labels: int64 N.
        fill: uint8 C, the colour of what is cut out.
        device: any, a CPU too.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, fill: np.ndarray, device: torch.device) -> None:
        self.images = torch.from_numpy(images).to(device)  # not pinned: that would take as much memory of the host
        self.labels = devices.send(labels, device)
        self.device = device
        self._fill = devices.send(fill, device)
        self._rows = torch.arange(images.shape[1], device=device)[None, :, None]
        self._columns = torch.arange(images.shape[2], device=device)[None, None, :]
        self._shrink = functools.cache(functools.partial(self._taps, images.shape[1]))

    def batches(
        self, order: np.ndarray, draws: Draws, side: int, sizes: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The images at `order` (int64 N), with the draws of each, in batches of `sizes`: uint8 B side side C, int64 B.

        Everything that an epoch needs is sent before its first batch: between two steps nothing waits. Batches of small
        images are made together, since starting a kernel takes longer than what it does to one of them.
        """
        parts = [None if part is None else devices.send(part, self.device) for part in vars(draws).values()]
        places = devices.send(order, self.device)
        together = max(1, TOGETHER // (max(sizes) * self.images[0, :, :, 0].numel()))
        ends = np.cumsum([0, *sizes]).tolist()
        for first in range(0, len(sizes), together):
            made = list(sizes[first : first + together])
            now = slice(ends[first], ends[first + len(made)])
            images = self._augmented(places[now], *(None if part is None else part[now] for part in parts))
            images = images if side == images.shape[1] else self._shrunk(images, side)
            yield from zip(images.split(made), self.labels[places[now]].split(made), strict=True)

    def _augmented(
        self,
        places: Tensor,
        shifts: Tensor | None,
        mirrored: Tensor | None,
        senses: Tensor | None,
        holes: Tensor | None,
    ) -> Tensor:
        """Gather once: each pixel from where cropping, flipping and turning bring it from."""
        if shifts is None and mirrored is None and senses is None and holes is None:
            return self.images[places]
        rows, columns, size = self._rows, self._columns, self.images.shape[1]
        if senses is not None:  # backwards, from the last that is done to the first
            sense = senses[:, None, None]
            rows, columns = torch.where(sense & 4 != 0, columns, rows), torch.where(sense & 4 != 0, rows, columns)
            rows = torch.where(sense & 1 != 0, size - 1 - rows, rows)
            columns = torch.where(sense & 2 != 0, size - 1 - columns, columns)
        if mirrored is not None:
            columns = torch.where(mirrored[:, None, None], size - 1 - columns, columns)
        if shifts is not None:
            rows, columns = rows + shifts[:, 0, None, None], columns + shifts[:, 1, None, None]
        found = self.images[places[:, None, None], rows.clamp(0, size - 1), columns.clamp(0, size - 1)]
        if shifts is not None:
            outside = (rows < 0) | (rows >= size) | (columns < 0) | (columns >= size)
            found = found.masked_fill(outside[..., None], 0)
        if holes is not None:
            hole = size // 2 // 2
            cut = [
                (along >= middle - hole) & (along < middle + hole)
                for along, middle in zip((self._rows, self._columns), holes[:, :, None, None].unbind(1), strict=True)
            ]
            found = torch.where((cut[0] & cut[1])[..., None], self._fill, found)
        return found

    def _taps(self, size: int, side: int) -> tuple[Tensor, Tensor, int]:
        places, weights, bits = taps(size, side)
        return devices.send(places, self.device), devices.send(weights, self.device), bits

    def _shrunk(self, images: Tensor, side: int) -> Tensor:
        """Along columns, then rows, each as sums of whole numbers, rounded to uint8: exact on every device."""
        places, weights, bits = self._shrink(side)
        for axis in (2, 1):
            parts = images.index_select(axis, places.flatten()).unflatten(axis, places.shape)
            by = weights.reshape(*(1,) * axis, *weights.shape, *(1,) * (3 - axis))
            images = (
                ((parts.int() * by).sum(axis + 1, dtype=torch.int32) + (1 << bits >> 1) >> bits).clamp(0, 255).byte()
            )
        return images


def taps(size: int, side: int) -> tuple[np.ndarray, np.ndarray, int]:
    """What torch's antialiased bilinear resizing of uint8 takes: places (int64 side T), weights (int32 side T), bits.

    A triangle as wide as the scale, sampled in the middle of pixels; its weights sum to 1 and are held as whole numbers
    of 2^-bits, the largest power with which all of them stay below 2^15.
    """
    scale = size / side
    middles = scale * (np.arange(side) + 0.5)
    first = np.maximum((middles - scale + 0.5).astype(np.int64), 0)
    last = np.minimum((middles + scale + 0.5).astype(np.int64), size)
    steps = np.arange((last - first).max())
    places = first[:, None] + steps
    heights = np.maximum(0.0, 1 - np.abs((places - middles[:, None] + 0.5) / scale)) * (places < last[:, None])
    heights /= heights.sum(1, keepdims=True)
    bits = max(bits for bits in range(22) if int(0.5 + heights.max() * 2**bits) < 2**15)
    weights = np.floor(heights * 2**bits + 0.5).astype(np.int32)
    return np.minimum(places, size - 1), weights, bits
