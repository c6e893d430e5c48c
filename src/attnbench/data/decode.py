"""From a data set's own files to uint8 images of one size, each with its hashes.

An image's key says what it is, whatever container it came in: the hash of its pixels (shape and RGB or grey values)
where it is an array or its file is lossless (PNG, BMP, lossless WebP ...), and the hash of the file where that is JPEG,
lossy WebP or the like, so that a decoder that rounds otherwise moves nothing.
"""

import hashlib
import io
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnbench.catalogue.cards import Source
from attnbench.catalogue.registry import Entry
from attnbench.data import Raw, folders, pixels
from attnbench.errors import DataProblem

CHUNK = 512
MOST_PIXELS = 1 << 27
"""Of an image as its file has it: a file of a few bytes may claim any number."""
NAMED = 10
"""So many broken files are named; the others are counted."""


@dataclass(frozen=True)
class Image:
    """One decoded image."""

    values: np.ndarray
    """uint8 H W C."""
    key: bytes
    """What the image is, whatever file it comes from: 16 bytes."""
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
    folder = folders.instead(entry.name, entry.card, root)
    try:
        raw = folders.stand_in(folder, entry.card, split) if folder else Raw(*entry.call(options, root, split))
    except (RuntimeError, OSError, EOFError, ValueError, AssertionError, LookupError, TypeError) as problem:
        reason = str(problem).split(" You can use download")[0] or type(problem).__name__
        instead = (
            f"; delete {', '.join(str(root / p) for p in entry.card.reads)} and try again" if entry.card.files else ""
        )
        raise DataProblem(f"{entry.name} in {root} cannot be read: {reason}{instead}") from problem
    return _sound(raw, entry.name, split)._replace(names=entry.card.names or raw.names)


def _sound(raw: Raw, name: str, split: str) -> Raw:
    """Images as an array or as paths, and as many class numbers; somebody's own may give anything."""
    what = f"{name} {split}"
    images, labels = raw.images, np.asarray(raw.labels)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    pictures, given = 0 if images is None else len(images), labels.size if labels.ndim == 1 else 0
    if not pictures or pictures != given:
        raise DataProblem(f"{what}: {pictures} images and {given} labels")
    if labels.dtype.kind not in "iubf" or (labels != labels.astype(np.int64)).any() or labels.min() < 0:
        raise DataProblem(f"{what}: labels must be whole numbers from 0 on, one an image, not {labels.dtype}")
    if isinstance(images, np.ndarray) and not _is_pictures(images):
        shape = " ".join(map(str, images.shape))
        raise DataProblem(f"{name} gives {images.dtype} images of shape {shape}; uint8 N H W C is expected")
    if not isinstance(images, np.ndarray):
        odd = [type(image).__name__ for image in images if not isinstance(image, str | Path)]
        if odd:
            raise DataProblem(f"{what}: images must be a uint8 array N H W C or paths of files, not {odd[0]}")
        images = [Path(image) for image in images]
    return raw._replace(images=images, labels=labels)


def decoding(raw: Raw, size: int | None, what: str, channels: int = 3) -> Iterator[list[Image]]:
    """The images of a split in chunks, decoded on all cores and resized to `size` pixels; None keeps their own size.

    Raises:
        DataProblem: images that cannot be read (all are named), or images of unequal sizes.
    """
    from rich.progress import track

    load = _from_array(size) if isinstance(raw.images, np.ndarray) else from_file(channels, size)
    starts = range(0, len(raw.images), CHUNK)
    shapes, broken = set[tuple[int, ...]](), list[Broken]()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in track(starts, f"decoding {what}", transient=True, disable=len(starts) < 8):
            loaded = list(pool.map(load, raw.images[start : start + CHUNK]))
            broken += [each for each in loaded if isinstance(each, Broken)]
            chunk = [each for each in loaded if isinstance(each, Image)]
            shapes |= {image.values.shape for image in chunk}
            if not broken and (len(shapes) > 1 or chunk[0].values.shape[0] != chunk[0].values.shape[1]):
                seen = ", ".join(f"{width}x{height}" for height, width, _ in sorted(shapes)[:3])
                raise DataProblem(
                    f"{what}: the images are not all square and of one size ({seen}); give image_size, "
                    f"as in --image-size {_near(shapes)}"
                )
            if not broken:
                yield chunk
    if broken:
        raise DataProblem(_named(broken))


@dataclass(frozen=True)
class Broken:
    """A file that is no readable image, and why."""

    file: Path
    reason: str


def _named(broken: list[Broken]) -> str:
    """All broken files in one line, the first ones by name."""
    if len(broken) == 1:
        return f"{broken[0].file} is no readable image: {broken[0].reason}"
    named = "; ".join(f"{each.file} ({each.reason})" for each in broken[:NAMED])
    more = f"; and {len(broken) - NAMED:,} more" if len(broken) > NAMED else ""
    return f"{len(broken):,} files are no readable images: {named}{more}"


def _near(shapes: set[tuple[int, ...]]) -> int:
    """A size to propose: the shorter side of the smallest image, within what a run takes."""
    return min(max(min(min(shape[:2]) for shape in shapes), 4), 224)


def _is_pictures(images: np.ndarray) -> bool:
    return images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3)))


def from_file(channels: int, size: int | None) -> Callable[[Path], Image | Broken]:
    """What reads an image file, with so many channels, resized to `size` pixels a side (None: as it is)."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    def load(file: Path) -> Image | Broken:
        try:
            content = file.read_bytes()
            with Pillow.open(io.BytesIO(content)) as picture:
                if math.prod(picture.size) > MOST_PIXELS:
                    return Broken(file, f"it is too large: {picture.width:,} x {picture.height:,} pixels")
                values = pixels.decoded(picture, channels)
                exact = pixels.exact(picture, content)
        except (UnidentifiedImageError, ImportError):  # a Pillow that ultralytics has changed asks for one more package
            return Broken(file, "it is empty" if not content else "of no known format")
        except Pillow.DecompressionBombError as problem:
            return Broken(file, f"it is too large: {problem}")
        except (
            OSError,
            SyntaxError,
            ValueError,
            TypeError,
            LookupError,
            EOFError,
            MemoryError,
            RuntimeError,
            ArithmeticError,
            AttributeError,
            struct.error,
        ) as problem:
            return Broken(file, str(problem) or type(problem).__name__)
        return _resized(values, size, None if exact else hashlib.sha256(content).digest()[:16])

    return load


def _from_array(size: int | None) -> Callable[[np.ndarray], Image]:
    def load(values: np.ndarray) -> Image:
        return _resized(np.ascontiguousarray(values if values.ndim == 3 else values[..., None]), size)

    return load


def _resized(values: np.ndarray, size: int | None, key: bytes | None = None) -> Image:
    """An image of `size` pixels; its key is that of its pixels unless it has another."""
    own = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).digest()[:16]
    if size is not None and values.shape[:2] != (size, size):
        from PIL import Image as Pillow

        picture = Pillow.fromarray(values[..., 0] if values.shape[2] == 1 else values)
        values = np.asarray(picture.resize((size, size), Pillow.Resampling.BILINEAR)).reshape(size, size, -1)
    return Image(values, key or own, own)
