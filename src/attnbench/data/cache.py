"""Decode once: every split becomes one uint8 array on disk, opened by memory map in milliseconds.

A cache folder is named by the content of the files and the image size, and appears in one step. An index
beside it remembers which state of the files (sizes and times) has which content, so that unchanged files
are not read again.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from attnbench.cards import Source
from attnbench.console import say
from attnbench.data import download
from attnbench.errors import DataProblem
from attnbench.files import replacing
from attnbench.registry import DATASETS, Entry

_FORMAT = 1
_CHUNK = 512


@dataclass(frozen=True)
class Decoded:
    """One source split in memory-mapped form."""

    images: np.ndarray
    """uint8 N H W C."""
    labels: np.ndarray
    """int64 N."""
    keys: np.ndarray
    """V16 N: a hash of each image as released, by which splits are cut."""
    pixels: np.ndarray
    """V16 N: a hash of each decoded image before resizing, by which duplicates are found."""
    sums: np.ndarray
    """int64 N C 2: sum and sum of squares of each image's values, for normalising constants of any subset."""
    names: tuple[str, ...]
    """Class names."""
    files: tuple[str, ...]
    """File names, or numbers where the release is an array."""
    fingerprint: str
    """Hash of images and labels."""


def decoded(dataset: str, split: str, size: int | None, data_dir: str | Path) -> Decoded:
    """Open a split of a data set at `size` pixels, decoding (and before that downloading) it where needed.

    Raises:
        DataProblem: data that are missing, corrupt or of unequal sizes; a folder that cannot be written.
    """
    entry, options = DATASETS.resolve(dataset)
    root = Path(data_dir)
    download.get(entry.name, entry.card, root)
    state = _state(entry, options, root)
    home = _home(root)
    label = f"{entry.name.replace(':', '.').lower()}-{split}-{size or 'native'}"
    index = home / f"{label}-{_hash(str(root.resolve()), options)}.json"
    known = _known(index, state)
    if known is None or not (home / known).is_dir():
        with FileLock(home / f"{label}.lock"):
            known = _known(index, state)
            if known is None or not (home / known).is_dir():
                known = _build(entry, options, split, size, root, home, label)
                _write_json(index, {"state": state, "folder": known})
    return _open(home / known)


def _state(entry: Entry[Source], options: Mapping[str, object], root: Path) -> str:
    """A cheap digest of the files as they lie there: names, sizes, times."""
    folders = [root / path for path in entry.card.reads]
    folders += [root / str(options[name]) for name in ("path", "test") if options.get(name)]
    listing = [(str(path), stat.st_size, stat.st_mtime_ns) for folder in folders for path, stat in _files(folder)]
    shipped = "" if folders else version("scikit-learn")
    return _hash(_FORMAT, entry.identity(), shipped, sorted(listing))


def _files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    if not path.is_dir():
        if path.exists():
            yield str(path), path.stat()
        return
    with os.scandir(path) as items:
        for item in items:
            if item.is_dir():
                yield from _files(Path(item.path))
            else:
                yield item.path, item.stat()


def _home(root: Path) -> Path:
    """`.cache` in the data folder, or the user's cache folder where that cannot be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnbench"
    for home in (root / ".cache", cache):
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=home):
                return home
        except OSError:
            continue
    raise DataProblem(f"neither {root / '.cache'} nor {cache} can be written; give another --data-dir")


def _known(index: Path, state: str) -> str | None:
    try:
        found = json.loads(index.read_text())
    except (OSError, ValueError):
        return None
    return found["folder"] if found.get("state") == state else None


def _build(
    entry: Entry[Source],
    options: Mapping[str, Any],
    split: str,
    size: int | None,
    root: Path,
    home: Path,
    label: str,
) -> str:
    """Decode a split into a folder named by its content; returns the folder's name."""
    raw = _read(entry, options, split, root)
    with tempfile.TemporaryDirectory(dir=home, prefix=".building-") as aside:
        try:
            digest = _decode(raw, entry.card.channels, size, Path(aside), f"{entry.name} {split}")
        except OSError as problem:
            raise DataProblem(f"the cache in {home} cannot be written: {problem.strerror or problem}") from None
        folder = f"{label}-{digest[:12]}"
        if (home / folder).exists():
            shutil.rmtree(home / folder)  # another writer's, or one from files that have since been touched
        Path(aside).rename(home / folder)
        Path(aside).mkdir()  # for the context manager to remove
    expected = entry.card.images.get(split, len(raw[1]))
    if len(raw[1]) != expected:
        say(f"warning: {entry.name} {split} has {len(raw[1]):,} images here, {expected:,} as released")
    return folder


def _read(entry: Entry[Source], options: Mapping[str, Any], split: str, root: Path) -> tuple[Any, Any, Any]:
    try:
        raw = entry.load()(root, split, **options)
    except (RuntimeError, OSError, EOFError, ValueError) as problem:
        raise DataProblem(f"{entry.name} in {root} cannot be read: {problem}") from problem
    images, labels, *names = raw
    if len(images) != len(labels) or len(labels) == 0:
        raise DataProblem(f"{entry.name} {split}: {len(images)} images and {len(labels)} labels")
    return images, np.asarray(labels, np.int64), names[0] if names else ()


def _decode(raw: tuple[Any, Any, Any], channels: int, size: int | None, folder: Path, what: str) -> str:
    """Write the arrays of a split into `folder`; returns the hash of images and labels."""
    from rich.progress import track

    images, labels, names = raw
    is_files = not isinstance(images, np.ndarray)
    load: Callable[[Any], _Image] = _from_file(channels, size) if is_files else _from_array(channels, size)
    digest, rows = hashlib.sha256(), []
    starts: Sequence[int] = range(0, len(images), _CHUNK)
    with ThreadPoolExecutor(os.cpu_count()) as pool, (folder / "images.bin").open("wb") as target:
        for start in track(starts, f"decoding {what}", transient=True, disable=len(starts) < 8):
            chunk = list(pool.map(load, images[start : start + _CHUNK]))
            stacked = _stack([image.values for image in chunk], what)
            target.write(stacked.tobytes())
            digest.update(stacked.tobytes())
            rows += [(image.key, image.pixels, _sums(image.values)) for image in chunk]
    digest.update(labels.tobytes())
    np.save(folder / "labels.npy", labels)
    np.save(folder / "keys.npy", np.array([row[0] for row in rows], "V16"))
    np.save(folder / "pixels.npy", np.array([row[1] for row in rows], "V16"))
    np.save(folder / "sums.npy", np.array([row[2] for row in rows], np.int64))
    files = [str(Path(*Path(file).parts[-2:])) for file in images] if is_files else []
    shape = [len(labels), *stacked.shape[1:]]
    about = {"shape": shape, "names": list(names), "files": files, "fingerprint": digest.hexdigest()}
    _write_json(folder / "about.json", about)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Image:
    values: np.ndarray
    key: bytes
    pixels: bytes


def _from_file(channels: int, size: int | None) -> Callable[[Path], _Image]:
    def load(file: Path) -> _Image:
        import io

        from PIL import Image

        content = file.read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as picture:
                image = picture.convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError) as problem:
            raise DataProblem(f"{file} is no readable image: {problem}") from None
        return _resized(image, size, hashlib.sha256(content).digest()[:16])

    return load


def _from_array(channels: int, size: int | None) -> Callable[[np.ndarray], _Image]:
    def load(values: np.ndarray) -> _Image:
        values = np.ascontiguousarray(values if values.ndim == 3 else values[..., None], dtype=np.uint8)
        key = hashlib.sha256(repr(values.shape).encode() + values.tobytes()).digest()[:16]
        if size in (None, values.shape[0]) and values.shape[0] == values.shape[1]:
            return _Image(values, key, key)
        from PIL import Image

        return _resized(Image.fromarray(values[..., 0] if values.shape[2] == 1 else values), size, key)

    return load


def _resized(image: Any, size: int | None, key: bytes) -> _Image:
    from PIL.Image import Resampling

    before = np.asarray(image)
    pixels = hashlib.sha256(repr(before.shape).encode() + before.tobytes()).digest()[:16]
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Resampling.BILINEAR)
    values = np.asarray(image)
    return _Image(values if values.ndim == 3 else values[..., None], key, pixels)


def _stack(images: list[np.ndarray], what: str) -> np.ndarray:
    shapes = {image.shape for image in images}
    if len(shapes) > 1 or images[0].shape[0] != images[0].shape[1]:
        seen = ", ".join(f"{width}x{height}" for height, width, _ in sorted(shapes)[:3])
        raise DataProblem(f"{what}: the images are not all square and of one size ({seen}, ...); give image_size")
    return np.stack(images)


def _sums(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1, values.shape[2]).astype(np.int64)
    return np.stack([flat.sum(0), (flat * flat).sum(0)], axis=1)


def _open(folder: Path) -> Decoded:
    about = json.loads((folder / "about.json").read_text())
    size = int(np.prod(about["shape"]))
    if (folder / "images.bin").stat().st_size != size:
        raise DataProblem(f"the cache {folder} is damaged; delete it and try again")
    return Decoded(
        images=np.memmap(folder / "images.bin", np.uint8, "r", shape=tuple(about["shape"])),
        labels=np.load(folder / "labels.npy"),
        keys=np.load(folder / "keys.npy"),
        pixels=np.load(folder / "pixels.npy"),
        sums=np.load(folder / "sums.npy"),
        names=tuple(about["names"]),
        files=tuple(about["files"]) or tuple(map(str, range(about["shape"][0]))),
        fingerprint=about["fingerprint"],
    )


def _write_json(file: Path, value: object) -> None:
    with replacing(file) as target:
        json.dump(value, target)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
