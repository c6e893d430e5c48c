"""Folders of images, one folder a class: somebody's own, or an official data set kept as one.

Hidden files and folders and what operating systems leave behind are passed over; links are followed, but not in a
circle. Every ending that the installed Pillow opens counts as an image; other files are left out, and counted.
"""

import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.catalogue.cards import Source
from attnbench.data import Raw
from attnbench.errors import DataProblem, reading
from attnbench.files import expanded

DROPPINGS = {"__macosx", "thumbs.db", "desktop.ini"}
"""What operating systems leave behind, besides hidden files."""
NO_PICTURES = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS"}
"""Formats that Pillow recognises but does not decode by itself."""
PARTS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
"""A split -> what its folder is called."""


@dataclass(frozen=True)
class Folder:
    """A folder with one folder a class."""

    path: Path
    classes: Mapping[str, tuple[Path, ...]]
    """Name of each class's folder, sorted -> its images, sorted."""
    left_out: tuple[str, ...]
    """Endings of the other files, one each."""

    @classmethod
    def of(cls, path: Path) -> "Folder":
        """List a folder.

        Raises:
            DataProblem: it is not there, or has no class folder.
        """
        if not path.is_dir():
            raise DataProblem(f"{path} is no folder; a folder with one folder a class is expected")
        names = sorted(item.name for item in path.iterdir() if item.is_dir() and not hidden(item.name))
        if not names:
            raise DataProblem(f"{path} holds no folders; one folder a class is expected")
        classes, left_out, around = {}, list[str](), frozenset({os.path.realpath(path)})
        for name in names:
            files = sorted(Path(file) for file, _ in files_below(path / name, around))
            classes[name] = tuple(file for file in files if file.suffix.lower() in endings())
            left_out += [file.suffix or file.name for file in files if file.suffix.lower() not in endings()]
        return cls(path, classes, tuple(left_out))

    def raw(self, labels: Mapping[str, int]) -> Raw:
        """Its images, labelled by the number of their class's folder."""
        files = [file for name in self.classes for file in self.classes[name]]
        numbers = [labels[name] for name, listed in self.classes.items() for _ in listed]
        return Raw(files, numbers, tuple(self.classes), self.left_out)


def located(path: str, root: Path) -> Path:
    """Where a path that a user gave lies: in the data folder `root`, or else in the working directory; ~ is home."""
    given = expanded(path)
    if given.parts[:1] and given.parts[0].startswith("~"):
        raise DataProblem(f"{path} cannot be read: there is nobody with that home")
    here = root / given
    with reading(here):
        return given.absolute() if not here.exists() and given.exists() else here


def hidden(name: str) -> bool:
    """Whether a file or folder is passed over: `.DS_Store`, `._a.png`, `.ipynb_checkpoints`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in DROPPINGS


@functools.cache
def endings() -> frozenset[str]:
    """The endings of file names that the installed Pillow opens, in lower case: `.png`."""
    from PIL import Image

    return frozenset(e for e, form in Image.registered_extensions().items() if form in {*Image.OPEN} - NO_PICTURES)


def parts_of(folder: Path) -> dict[str, Path]:
    """The folders of splits in a folder: called like one, with folders in them, as none of a class has to have."""
    inside = [item for item in folder.iterdir() if item.is_dir() and not hidden(item.name)]
    there = {item.name.lower(): item for item in inside if any(each.is_dir() for each in item.iterdir())}
    return {part: there[name] for part, names in PARTS.items() for name in names if name in there}


def files_below(path: Path, above: frozenset[str] = frozenset()) -> Iterator[tuple[str, os.stat_result]]:
    """The path and the state of a file, or of every file below a folder; a link that leads nowhere is no file."""
    if not path.is_dir():
        if path.exists():
            yield str(path), path.stat()
        return
    own = os.path.realpath(path)
    if own in above:  # a link that leads back up
        return
    with reading(path), os.scandir(path) as items:
        for item in items:
            if hidden(item.name):
                continue
            if item.is_dir():
                yield from files_below(Path(item.path), above | {own})
            elif item.is_file():
                yield item.path, item.stat()


def counted(left_out: Sequence[str]) -> str:
    """The files that were left out, in words."""
    kinds = ", ".join(f"{ending} {number:,}" for ending, number in Counter(left_out).most_common(5))
    return f"{len(left_out):,} other files are left out ({kinds})"


def instead(name: str, card: Source, root: Path) -> Path | None:
    """The image folder that stands for a data set's official files, where those are not there."""
    home = root / name
    if not card.names or not card.reads or all((root / path).exists() for path in card.reads):
        return None
    return home if _parts(home, card) else None


def places(name: str, card: Source) -> str:
    """Where below the data folder a data set's images may lie in place of its official files."""
    return f"{name}/CLASS/*" if card.splits == ("all",) else f"{name}/{{{','.join(card.splits)}}}/CLASS/*"


def stand_in(home: Path, card: Source, split: str) -> Raw:
    """A split of an official data set from a folder of images, labelled with the official numbers of its classes.

    Raises:
        DataProblem: a split that is not there, or a class folder whose class cannot be told.
    """
    parts = _parts(home, card)
    wanted = list(parts) if split == "all" else [split]
    if split != "all" and split not in parts:
        raise DataProblem(f"{home}/{split} is not there; {places(home.name, card)} are expected")
    found = {part: Folder.of(path) for part, path in parts.items()}
    labels = _numbers({name: folder.path / name for folder in found.values() for name in folder.classes}, card.names)
    raws = [found[part].raw(labels) for part in wanted]
    return Raw(
        [file for raw in raws for file in raw.images],
        [label for raw in raws for label in raw.labels],
        card.names,
        [ending for raw in raws for ending in raw.left_out],
    )


def _parts(home: Path, card: Source) -> dict[str, Path]:
    """Folders of a stand-in by split; without an official split, whatever split folders there are, or the whole."""
    names = ("train", "val", "test") if card.splits == ("all",) else card.splits
    parts = {name: home / name for name in names if (home / name).is_dir()}
    if parts or card.splits != ("all",) or not home.is_dir():
        return parts
    known = {_plain(name) for name in card.names} | {str(number) for number in range(len(card.names) + 1)}
    return {"all": home} if any(item.is_dir() and _plain(item.name) in known for item in home.iterdir()) else {}


def _numbers(found: Mapping[str, Path], names: Sequence[str]) -> dict[str, int]:
    """Class folder -> official number: by the class's name, or by a number that counts from 0 or from 1."""
    official = {_plain(name): number for number, name in enumerate(names)}
    if all(name.isdecimal() for name in found):
        return _counted({name: int(name) for name in found}, len(names), next(iter(found.values())).parent)
    for name, path in found.items():
        if _plain(name) not in official:
            raise DataProblem(f"{path} is none of the classes {', '.join(names[:10])}{', ...' if names[10:] else ''}")
    return {name: official[_plain(name)] for name in found}


def _counted(numbers: dict[str, int], classes: int, where: Path) -> dict[str, int]:
    lowest, highest = min(numbers.values()), max(numbers.values())
    if highest > classes or (lowest == 0 and highest == classes):
        raise DataProblem(f"{where}/{highest}: there are {classes} classes, numbered from 0 or from 1")
    if lowest > 0 and highest < classes:
        raise DataProblem(f"{where} has neither class 0 nor class {classes}, so what its numbers count from is unknown")
    return {name: number - (lowest > 0) for name, number in numbers.items()}


def _plain(name: str) -> str:
    """A class's name in lower case without anything but letters and digits."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
