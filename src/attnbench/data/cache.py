"""Decode once: every split becomes one uint8 array on disk, opened by memory map in milliseconds.

The images lie in the order of their keys, then of their labels: a data set is its images, not the container that they
came in. A cache folder is named by its content and the image size, and appears in one step. An index beside it
remembers which state of the files (sizes and times) has which content, so that unchanged files are not read again.
"""

import dataclasses
import hashlib
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from filelock import FileLock

from attnbench.catalogue.cards import Source
from attnbench.catalogue.registry import Choice, Entry
from attnbench.console import say
from attnbench.data import Raw, download
from attnbench.data.decode import CHUNK, Image, decoding, read
from attnbench.data.folders import counted, files_below, instead, located
from attnbench.data.official import compared
from attnbench.errors import DataProblem
from attnbench.files import expanded, replacing, user_cache

_FORMAT = 4
_TYPES = {"labels": "int64", "keys": "|V16", "pixels": "|V16", "sums": "int64"}
"""Of the arrays in a cache."""
_UNREADABLE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError),
    *(RecursionError, SyntaxError, TokenError, TypeError, ValueError),
)
"""What files raise that are not as they were written."""


@dataclass(frozen=True)
class Decoded:
    """One source split in memory-mapped form."""

    images: np.ndarray
    """uint8 N H W C."""
    labels: np.ndarray
    """int64 N."""
    keys: np.ndarray
    """V16 N: what each image is (`decode.Image.key`), ascending; by them splits are cut."""
    pixels: np.ndarray
    """V16 N: a hash of each decoded image before resizing, by which duplicates are found."""
    sums: np.ndarray
    """int64 N C 2: sum and sum of squares of each image's values, for normalising constants of any subset."""
    names: tuple[str, ...]
    """Class names."""
    files: tuple[str, ...]
    """File names, or numbers in the array that was released."""
    left_out: tuple[str, ...]
    """Endings of the files that are no images, one each."""
    fingerprint: str
    """Hash of the images' keys and labels and of the size that they are decoded to."""


@dataclass(frozen=True)
class _Asked:
    """A split of a data set at one size, in one data folder."""

    entry: Entry[Source]
    options: Mapping[str, Any]
    split: str
    size: int | None
    root: Path

    @property
    def what(self) -> str:
        """The split in words."""
        return f"{self.entry.name} {self.split}"

    @property
    def label(self) -> str:
        """The beginning of its cache's name."""
        return f"{self.entry.name.replace(':', '.').lower()}-{self.split}-{self.size or 'native'}"


def decoded(dataset: Choice[Source], split: str, size: int | None, data_dir: str | Path) -> Decoded:
    """Open a split of a data set at `size` pixels, decoding (and before that downloading) it where needed.

    Raises:
        DataProblem: data that are missing, corrupt or of unequal sizes; a folder that cannot be written.
    """
    asked = _Asked(dataset.entry, dataset.options, split, size, expanded(data_dir))
    if not instead(asked.entry.name, asked.entry.card, asked.root):
        download.get(asked.entry.name, asked.entry.card, asked.root)
    state, home = _state(asked), _home(asked.root)
    index = home / f"{asked.label}-{_hash(str(asked.root.resolve()), asked.options)}.json"
    known = _known(index, state)
    if known is None or not (home / known).is_dir():
        with FileLock(home / f"{asked.label}.lock"):
            known = _known(index, state)
            if known is None or not (home / known).is_dir():
                known = _build(asked, home)
                _write_json(index, {"state": state, "folder": known})
    return _open(home / known)


def there(dataset: Choice[Source], data_dir: str | Path) -> bool:
    """Whether a data set's files are in the data folder, as far as its card says where they would be."""
    asked = _Asked(dataset.entry, dataset.options, "", None, expanded(data_dir))
    return all(path.exists() for path in _watched(asked))


def unused(data_dir: str | Path) -> list[Path]:
    """Decoded arrays that no index names any more, and what a crash left of one a day ago or longer."""
    home = _home(expanded(data_dir))
    named = {_indexed(index).get("folder") for index in home.glob("*.json")}
    old = time.time() - 86_400
    left = [path for path in home.glob(".building-*") if path.stat().st_mtime < old]
    return sorted(left + [about.parent for about in home.glob("*/about.json") if about.parent.name not in named])


def _watched(asked: _Asked) -> list[Path]:
    """The files and folders that a data set is read from, as far as its card says which."""
    card = asked.entry.card
    given = [str(asked.options[name]) for name in card.folders.values() if name in asked.options]
    own = instead(asked.entry.name, card, asked.root)
    official = [own] if own else [asked.root / path for path in card.reads]
    return official + [located(path, asked.root) for path in given]


def _state(asked: _Asked) -> str | None:
    """A cheap digest of the files as they lie there: names, sizes, times; None where only reading can tell."""
    watched, ships_with = _watched(asked), asked.entry.card.ships_with
    if not watched and not asked.entry.builtin:
        return None
    listing = [(path, stat.st_size, stat.st_mtime_ns) for folder in watched for path, stat in files_below(folder)]
    shipped = version(ships_with) if ships_with else ""
    return _hash(_FORMAT, asked.entry.identity(), shipped, sorted(listing))


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
    found = _indexed(index)
    return found["folder"] if state is not None and found.get("state") == state else None


def _indexed(index: Path) -> dict[str, str]:
    """The `state` of the files and the `folder` made from them; empty where that is not known."""
    try:
        found = json.loads(index.read_text(encoding="utf-8"))
        return {"state": found["state"], "folder": Path(found["folder"]).name}
    except (OSError, *_UNREADABLE):
        return {}


def _build(asked: _Asked, home: Path) -> str:
    """Decode a split into a folder named by its content; returns the folder's name."""
    raw = read(asked.entry, asked.options, asked.split, asked.root)
    with tempfile.TemporaryDirectory(dir=home, prefix=".building-") as aside, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of pictures that it opens all the same
        try:
            chunks = decoding(raw, asked.size, asked.what, asked.entry.card.channels)
            identity = _write(chunks, raw, Path(aside))
        except OSError as problem:
            raise DataProblem(f"the cache in {home} cannot be written: {problem.strerror or problem}") from None
        folder = home / f"{asked.label}-{identity}"
        if not _usable(folder):
            shutil.rmtree(folder, ignore_errors=True)
            (Path(aside) / "whole").rename(folder)
    _warn(asked, _open(folder))
    return folder.name


def _warn(asked: _Asked, made: Decoded) -> None:
    """Say what somebody may not know of the data."""
    here = len(made.labels)
    expected = asked.entry.card.images.get(asked.split, here)
    if here != expected:
        say(f"warning: {asked.what} has {here:,} images here, {expected:,} as released")
    found = compared(asked.entry.name, asked.split, made.keys, made.labels)
    if found and found.right < here:
        tell = f"attnbench data check {asked.entry.name} names the others"
        say(f"warning: {found.right:,} of the {here:,} images of {asked.what} are official ones; {tell}")
    if made.left_out:
        say(f"{asked.what}: {counted(made.left_out)}")


def _write(chunks: Iterator[list[Image]], raw: Raw, aside: Path) -> str:
    """Write the arrays of a split into the folder `whole`, ordered by content; returns a hash of all that is in it."""
    images, shape = list[Image](), tuple[int, ...]()
    with (aside / "unordered.bin").open("wb") as target:
        for chunk in chunks:
            target.write(np.stack([image.values for image in chunk]).tobytes())
            shape = chunk[0].values.shape
            images += [dataclasses.replace(image, values=image.sums) for image in chunk]
    arrays = {
        "labels": np.asarray(raw.labels, np.int64),
        "keys": np.array([image.key for image in images], "V16"),
        "pixels": np.array([image.pixels for image in images], "V16"),
        "sums": np.array([image.values for image in images]),
    }
    order, folder = by_content(arrays["keys"], arrays["labels"]), aside / "whole"
    folder.mkdir()
    pixels = _reorder(aside / "unordered.bin", folder / "images.bin", shape, order)
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values[order])
    about = {"shape": [len(order), *shape], "names": list(raw.names), "left_out": list(raw.left_out)}
    about |= {"files": [_named(raw.images, place) for place in order.tolist()]}
    content = repr(shape).encode() + arrays["keys"][order].tobytes() + arrays["labels"][order].tobytes()
    about |= {"fingerprint": hashlib.sha256(content).hexdigest()}
    _write_json(folder / "about.json", about)
    return _hash(pixels, about)


def _named(images: np.ndarray | Sequence[Path], place: int) -> str:
    """A file by its own and its folder's name; an image of an array by its number."""
    return str(place) if isinstance(images, np.ndarray) else str(Path(*Path(images[place]).parts[-2:]))


def by_content(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The order of images in a data set: int64 N, by key (V16 N), then by label (int64 N)."""
    halves = np.frombuffer(keys.tobytes(), ">u8").reshape(len(keys), 2)
    return np.lexsort((labels, halves[:, 1], halves[:, 0]))


def _reorder(source: Path, goal: Path, shape: tuple[int, ...], order: np.ndarray) -> str:
    """Write the images of a file in another order; returns a hash of what is written."""
    images, content = np.memmap(source, np.uint8, "r", shape=(len(order), *shape)), hashlib.sha256()
    with goal.open("wb") as target:
        for start in range(0, len(order), CHUNK):
            values = images[order[start : start + CHUNK]].tobytes()
            target.write(values)
            content.update(values)
    return content.hexdigest()


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
        if {name: str(array.dtype) for name, array in arrays.items()} != _TYPES or arrays["sums"].ndim != 3:
            raise ValueError("types differ")
        return Decoded(
            images=np.memmap(folder / "images.bin", np.uint8, "r", shape=shape),
            names=tuple(about["names"]),
            files=tuple(about["files"]),
            left_out=tuple(about["left_out"]),
            fingerprint=about["fingerprint"],
            **arrays,
        )
    except (OSError, *_UNREADABLE) as problem:
        raise DataProblem(f"the cache {folder} is damaged ({problem}); delete it and try again") from None


def _write_json(file: Path, value: object) -> None:
    with replacing(file) as target:
        json.dump(value, target)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
