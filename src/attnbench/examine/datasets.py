"""`attnbench data list / get / check`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from attnbench.catalogue.cards import Source
from attnbench.catalogue.registry import DATASETS
from attnbench.data import download, official
from attnbench.data.cache import Decoded
from attnbench.data.folders import counted, instead
from attnbench.data.splits import Split, duplicates, load_splits, statistics
from attnbench.spec.run import RunSpec

NAMED = 5
"""So many images of a kind are named; the others are counted."""


def show(root: Path) -> int:
    """Print every data set, and whether its files are there."""
    for entry in DATASETS:
        print(f"{entry.name:18} {entry.card.title}  [{_state(entry.name, entry.card, root)}]")
    return 0


def get(name: str, root: Path) -> int:
    """Download and unpack what is missing."""
    entry = DATASETS.resolve(name).entry
    folder = instead(entry.name, entry.card, root)
    if not folder:
        download.get(entry.name, entry.card, root)
    print(f"{entry.name}: the {'images' if folder else 'files'} are in {folder or root}/")
    return 0


def check(name: str, root: Path, image_size: int | None = None) -> int:
    """Decode everything and print sizes, fingerprints, exact duplicates, and what differs from the official images.

    Returns:
        1 where the images or their numbers are not as released.
    """
    entry = DATASETS.resolve(name).entry
    splits = load_splits(RunSpec(dataset=name, image_size=image_size), root)
    parts = [split for split in (splits.train, splits.val, splits.test) if split is not None]
    for split in parts:
        print(f"{split.name:6} {len(split):7,} images in {len(set(split.labels.tolist()))} classes{_left_out(split)}")
    mean, std = statistics(splits.train)
    print(f"mean {' '.join(f'{m:.4f}' for m in mean)} / std {' '.join(f'{s:.4f}' for s in std)} (train)")
    print(f"data {splits.data_fingerprint}, split {splits.split_fingerprint}")
    pairs = duplicates(splits)
    for one, two in pairs:
        print(f"duplicate across splits: {one} = {two}")
    print(f"{len(pairs)} exact duplicates across splits")
    released, here = sum(entry.card.images.values()), sum(map(len, parts))
    if released and here != released:
        print(f"NOT AS RELEASED: {here:,} images here, {released:,} in the release")
    whole = {"all": splits.train} if entry.card.splits == ("all",) else {split.name: split for split in parts}
    as_released = [_official(entry.name, entry.card, part, split.source) for part, split in whole.items()]
    return 0 if all(as_released) and released in (0, here) else 1


def _state(name: str, card: Source, root: Path) -> str:
    """Where a data set's files are."""
    if card.ships_with:
        return f"ships with {card.ships_with}"
    if card.folders:
        return "any folder"
    if folder := instead(name, card, root):
        return f"there, as images in {folder}"
    absent = download.missing(card, root)
    return f"missing: {', '.join(absent)}" if absent else "there"


def _left_out(split: Split) -> str:
    return f"; {counted(split.source.left_out)}" if split.source.left_out else ""


def _official(name: str, card: Source, part: str, source: Decoded) -> bool:
    """Say which images of a split are official ones, and name the others; whether it is the official data."""
    found = official.compared(name, part, source.keys, source.labels)
    if found is None:
        if card.images:
            print(f"{part:6} not compared: no list of the official images of {name} is kept")
        return True
    print(f"{part:6} {found.right:,} of {found.total:,} images are the official ones")
    for line in _differences(found, source):
        print(f"{part:6} {line}")
    if found.complete and official.digest(source.keys, source.labels) != card.digests.get(part):
        print(f"{part:6} NOT OFFICIAL: the hash of all images and labels differs")
        return False
    return found.complete


def _differences(found: official.Found, source: Decoded) -> Iterator[str]:
    """What is not as in the official data, a line each."""

    def name(label: int) -> str:
        return source.names[label] if label < len(source.names) else str(label)

    def image(place: int) -> str:
        return f"{source.files[place]} ({name(int(source.labels[place]))})"

    yield from _some([f"{image(place)} has pixels of no official image" for place in found.foreign])
    yield from _some([f"{image(place)} is officially {name(label)}" for place, label in found.relabelled.items()])
    yield from _some([f"{image(place)} is an official {split} image" for place, split in found.strayed.items()])
    yield from _some([f"{image(place)} is there more often than officially" for place in found.repeated])
    if found.missing:
        number = sum(found.missing.values())
        of = [f"{name(label)} {count:,}" for label, count in sorted(found.missing.items())]
        more = f" and {len(of) - NAMED} more classes" if len(of) > NAMED else ""
        yield f"{number:,} official image{'s'[: number != 1]} missing: {', '.join(of[:NAMED])}{more}"


def _some(lines: Sequence[str]) -> list[str]:
    """The first few lines, and how many more there are."""
    more = len(lines) - NAMED
    return [*lines[:NAMED], *([f"... and {more:,} more like the last"] if more > 0 else [])]
