"""`attnbench data list / get / check`."""

from pathlib import Path

from attnbench.catalogue.registry import DATASETS
from attnbench.data import download
from attnbench.data.splits import duplicates, load_splits, statistics
from attnbench.spec.run import RunSpec


def show(root: Path) -> int:
    """Print every data set, and whether its files are there."""
    for entry in DATASETS:
        absent = download.missing(entry.card, root)
        state = (
            "there" if entry.card.reads and not absent else "ships with scikit-learn" if entry.name == "digits" else ""
        )
        state = state or (f"missing: {', '.join(absent)}" if absent else "any folder")
        print(f"{entry.name:18} {entry.card.title}  [{state}]")
    return 0


def get(name: str, root: Path) -> int:
    """Download and unpack what is missing."""
    entry = DATASETS.resolve(name).entry
    download.get(entry.name, entry.card, root)
    print(f"{entry.name}: the files are in {root}/")
    return 0


def check(name: str, root: Path) -> int:
    """Decode everything and print sizes, fingerprints and exact duplicates; 1 where numbers are not as released."""
    spec = RunSpec(dataset=name)
    splits = load_splits(spec, root)
    parts = {split.name: split for split in (splits.train, splits.val, splits.test) if split is not None}
    for part, split in parts.items():
        print(f"{part:6} {len(split):7,} images in {len(set(split.labels.tolist()))} classes")
    mean, std = statistics(splits.train)
    print(f"mean {' '.join(f'{m:.4f}' for m in mean)} / std {' '.join(f'{s:.4f}' for s in std)} (train)")
    print(f"data {splits.data_fingerprint}, split {splits.split_fingerprint}")
    pairs = duplicates(splits)
    for one, two in pairs:
        print(f"duplicate across splits: {one} = {two}")
    print(f"{len(pairs)} exact duplicates across splits")
    released = DATASETS.resolve(name).card.images
    here = sum(len(split) for split in parts.values())
    if released and here != sum(released.values()):
        print(f"NOT AS RELEASED: {here:,} images here, {sum(released.values()):,} in the release")
        return 1
    return 0
