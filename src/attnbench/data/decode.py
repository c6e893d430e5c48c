"""From a data set's own files to uint8 images of one size, each with its hashes."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnbench.catalogue.cards import Source
from attnbench.catalogue.registry import Entry
from attnbench.data import Raw
from attnbench.errors import DataProblem

CHUNK = 512


@dataclass(frozen=True)
class Image:
    """One decoded image."""

    values: np.ndarray
    """uint8 H W C."""
    key: bytes
    """Hash of the image as released (the file, or the array): 16 bytes."""
    pixels: bytes
    """Hash of the decoded image before resizing: 16 bytes."""

    @property
    def sums(self) -> np.ndarray:
        """int64 C 2: sum and sum of squares of the values."""
        flat = self.values.reshape(-1, self.values.shape[2]).astype(np.int64)
        return np.stack([flat.sum(0), (flat * flat).sum(0)], axis=1)


def read(entry: Entry[Source], options: Mapping[str, Any], split: str, root: Path) -> Raw:
    """Let a data set's own function read a split, and check what it gives.

    Raises:
        DataProblem: files it cannot read, or something that is no images with labels.
    """
    try:
        raw = Raw(*entry.call(options, root, split))
    except (RuntimeError, OSError, EOFError, ValueError, AssertionError, LookupError, TypeError) as problem:
        reason = str(problem).split(" You can use download")[0] or type(problem).__name__
        instead = (
            f"; delete {', '.join(str(root / p) for p in entry.card.reads)} and try again" if entry.card.files else ""
        )
        raise DataProblem(f"{entry.name} in {root} cannot be read: {reason}{instead}") from problem
    images, labels = raw.images, raw.labels
    if len(images) != len(labels) or len(labels) == 0:
        raise DataProblem(f"{entry.name} {split}: {len(images)} images and {len(labels)} labels")
    if isinstance(images, np.ndarray) and not _is_pictures(images):
        shape = " ".join(map(str, images.shape))
        raise DataProblem(f"{entry.name} gives {images.dtype} images of shape {shape}; uint8 N H W C is expected")
    return raw


def decoding(raw: Raw, size: int | None, what: str, channels: int = 3) -> Iterator[list[Image]]:
    """The images of a split in chunks, decoded on all cores and resized to `size` pixels; None keeps their own size.

    Raises:
        DataProblem: an image that cannot be read, or images of unequal sizes.
    """
    from rich.progress import track

    load = _from_array(size) if isinstance(raw.images, np.ndarray) else _from_file(channels, size)
    starts = range(0, len(raw.images), CHUNK)
    shapes: set[tuple[int, ...]] = set()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in track(starts, f"decoding {what}", transient=True, disable=len(starts) < 8):
            chunk = list(pool.map(load, raw.images[start : start + CHUNK]))
            shapes |= {image.values.shape for image in chunk}
            if len(shapes) > 1 or chunk[0].values.shape[0] != chunk[0].values.shape[1]:
                seen = ", ".join(f"{width}x{height}" for height, width, _ in sorted(shapes)[:3])
                raise DataProblem(f"{what}: the images are not all square and of one size ({seen}); give image_size")
            yield chunk


def _is_pictures(images: np.ndarray) -> bool:
    return images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3)))


def _from_file(channels: int, size: int | None) -> Callable[[Path], Image]:
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    def load(file: Path) -> Image:
        try:
            content = file.read_bytes()
            with Pillow.open(io.BytesIO(content)) as picture:
                image = picture.convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, TypeError, Pillow.DecompressionBombError) as problem:
            reason = "of no known format" if isinstance(problem, UnidentifiedImageError) else problem
            raise DataProblem(f"{file} is no readable image: {reason}") from None
        return _resized(image, size, hashlib.sha256(content).digest()[:16])

    return load


def _from_array(size: int | None) -> Callable[[np.ndarray], Image]:
    def load(values: np.ndarray) -> Image:
        values = np.ascontiguousarray(values if values.ndim == 3 else values[..., None])
        key = _hash(values)
        if size in (None, values.shape[0]) and values.shape[0] == values.shape[1]:
            return Image(values, key, key)
        from PIL import Image as Pillow

        return _resized(Pillow.fromarray(values[..., 0] if values.shape[2] == 1 else values), size, key)

    return load


def _resized(image: Any, size: int | None, key: bytes) -> Image:
    from PIL.Image import Resampling

    pixels = _hash(np.asarray(image))
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Resampling.BILINEAR)
    values = np.asarray(image)
    return Image(values if values.ndim == 3 else values[..., None], key, pixels)


def _hash(values: np.ndarray) -> bytes:
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).digest()[:16]
