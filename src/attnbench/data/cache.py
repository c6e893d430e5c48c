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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from attnbench.catalogue.cards import Source
from attnbench.catalogue.registry import DATASETS, Entry
from attnbench.console import say
from attnbench.data import Raw, download
from attnbench.data.decode import Image, decoding, read
from attnbench.errors import DataProblem
from attnbench.files import replacing, user_cache

_FORMAT = 1


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
    choice = DATASETS.resolve(dataset)
    entry, options = choice.entry, choice.options
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


def _state(entry: Entry[Source], options: Mapping[str, object], root: Path) -> str | None:
    """A cheap digest of the files as they lie there: names, sizes, times; None where only reading can tell."""
    folders = [root / path for path in entry.card.reads]
    folders += [root / str(options[name]) for name in ("path", "test") if options.get(name)]
    if not folders and not entry.builtin:
        return None
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
            elif item.is_file():  # a link that leads nowhere is no file
                yield item.path, item.stat()


def _home(root: Path) -> Path:
    """`.cache` in the data folder, or the user's cache folder where that cannot be written."""
    cache = user_cache()
    for home in (root / ".cache", cache):
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=home):
                return home
        except OSError:
            continue
    raise DataProblem(f"neither {root / '.cache'} nor {cache} can be written; give another --data-dir")


def _known(index: Path, state: str | None) -> str | None:
    """The folder that an earlier call made from files in this state."""
    try:
        found = json.loads(index.read_text())
    except (OSError, ValueError):
        return None
    return found["folder"] if state is not None and found.get("state") == state else None


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
    raw = read(entry, options, split, root)
    with tempfile.TemporaryDirectory(dir=home, prefix=".building-") as aside:
        try:
            identity = _write(
                decoding(raw, size, f"{entry.name} {split}", entry.card.channels), raw, Path(aside) / "whole"
            )
        except OSError as problem:
            raise DataProblem(f"the cache in {home} cannot be written: {problem.strerror or problem}") from None
        folder = home / f"{label}-{identity}"
        if not _usable(folder):
            shutil.rmtree(folder, ignore_errors=True)
            (Path(aside) / "whole").rename(folder)
    expected = entry.card.images.get(split, len(raw.labels))
    if len(raw.labels) != expected:
        say(f"warning: {entry.name} {split} has {len(raw.labels):,} images here, {expected:,} as released")
    return folder.name


def _write(chunks: Iterator[list[Image]], raw: Raw, folder: Path) -> str:
    """Write the arrays of a split; returns a hash of everything that is written."""
    folder.mkdir()
    content, images = hashlib.sha256(), []
    shape: tuple[int, ...] = ()
    with (folder / "images.bin").open("wb") as target:
        for chunk in chunks:
            values = np.stack([image.values for image in chunk]).tobytes()
            target.write(values)
            content.update(values)
            shape = chunk[0].values.shape
            images += [(image.key, image.pixels, image.sums) for image in chunk]
    content.update(np.asarray(raw.labels, np.int64).tobytes())
    keys, pixels, sums = zip(*images, strict=True)
    np.save(folder / "labels.npy", np.asarray(raw.labels, np.int64))
    np.save(folder / "keys.npy", np.array(keys, "V16"))
    np.save(folder / "pixels.npy", np.array(pixels, "V16"))
    np.save(folder / "sums.npy", np.array(sums, np.int64))
    files = [] if isinstance(raw.images, np.ndarray) else [str(Path(*Path(file).parts[-2:])) for file in raw.images]
    about = {"shape": [len(images), *shape], "names": list(raw.names), "files": files}
    _write_json(folder / "about.json", {**about, "fingerprint": content.hexdigest()})
    return _hash(content.hexdigest(), keys, about)


def _usable(folder: Path) -> bool:
    try:
        _open(folder)
    except DataProblem:
        return False
    return True


def _open(folder: Path) -> Decoded:
    try:
        about = json.loads((folder / "about.json").read_text())
        arrays = {name: np.load(folder / f"{name}.npy") for name in ("labels", "keys", "pixels", "sums")}
        shape = tuple(about["shape"])
        if (folder / "images.bin").stat().st_size != np.prod(shape) or {len(a) for a in arrays.values()} != {shape[0]}:
            raise ValueError("sizes differ")
        return Decoded(
            images=np.memmap(folder / "images.bin", np.uint8, "r", shape=shape),
            names=tuple(about["names"]),
            files=tuple(about["files"]) or tuple(map(str, range(shape[0]))),
            fingerprint=about["fingerprint"],
            **arrays,
        )
    except (OSError, ValueError, EOFError, LookupError, TypeError) as problem:
        raise DataProblem(f"the cache {folder} is damaged ({problem}); delete it and try again") from None


def _write_json(file: Path, value: object) -> None:
    with replacing(file) as target:
        json.dump(value, target)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
