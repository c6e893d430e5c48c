"""Train, validation and test: fixed, stratified, fingerprinted, the same on every machine."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.data.cache import Decoded, decoded
from attnbench.errors import DataProblem
from attnbench.spec.resolved import cuts_test
from attnbench.spec.run import RunSpec

TEST_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Images of one part of a data set, as they are on disk, and which of them belong to it."""

    name: str
    source: Decoded
    indices: np.ndarray
    """int64: the positions in `source` that belong to this split, ascending."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> np.ndarray:
        """int64 N."""
        found: np.ndarray = self.source.labels[self.indices]
        return found

    @property
    def fingerprint(self) -> str:
        """Hash of the indices and of the data they point into."""
        return hashlib.sha256(self.source.fingerprint.encode() + self.indices.tobytes()).hexdigest()


@dataclass(frozen=True)
class Splits:
    """The three parts that a run is made from; `val` is None where nothing is set apart."""

    train: Split
    val: Split | None
    test: Split | None
    """None where a run is scored on validation images: then the test images are not opened."""

    @property
    def scored(self) -> Split:
        """The images that a trained network is scored on."""
        found = self.test or self.val
        assert found is not None
        return found

    @property
    def classes(self) -> int:
        """Number of classes: as many as have names, or as the training labels count."""
        return max(int(self.train.source.labels.max()) + 1, len(self.train.source.names))

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return int(self.train.source.images.shape[3])

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return int(self.train.source.images.shape[1])

    @property
    def data_fingerprint(self) -> str:
        """Hash of all images (by their keys) and labels, whichever are used."""
        parts = [split.source.fingerprint for split in (self.train, self.val, self.test) if split]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]

    @property
    def split_fingerprint(self) -> str:
        """Hash of which images belong to which part."""
        parts = [split.fingerprint if split else "-" for split in (self.train, self.val, self.test)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def load_splits(spec: RunSpec, data_dir: str | Path) -> Splits:
    """Open the data of a run and cut its splits; the test images are mapped, not read.

    Raises:
        DataProblem: data that are missing, corrupt, or too few for what the run asks.
    """
    card, size = spec.resolved.dataset.card, spec.resolved.image_size

    def source(part: str) -> Decoded:
        return decoded(spec.resolved.dataset, part, size, data_dir)

    draw = spec.seed_of("split")
    tested = spec.evaluate == "test"
    val: Split | None = None
    test: Split | None = None
    if cuts_test(spec.resolved.dataset):
        train, test = _cut(source("all" if card.splits == ("all",) else "train"), None, TEST_SHARE, "test", draw)
    else:
        train, test = _whole("train", source("train")), _whole("test", source("test")) if tested else None
        if "val" in card.splits and not spec.val_fraction:
            val = _whole("val", source("val"))
    if spec.val_fraction:
        train, val = _cut(train.source, train.indices, spec.val_fraction, "val", draw)
    train = _some(train, round(spec.train_fraction * len(train)), "fraction", draw)
    train = _some(train, spec.train_limit, "limit", draw)
    test = _some(test, spec.test_limit, "limit", draw) if test and tested else None
    shapes = {split.source.images.shape[1:] for split in (train, val, test) if split}
    if len(shapes) > 1:
        seen = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes))
        raise DataProblem(f"{spec.dataset}: the splits' images differ ({seen}); give image_size")
    splits = Splits(train, val, test)
    most = max((int(split.source.labels.max()) for split in (val, test) if split), default=0)
    if most >= splits.classes:
        raise DataProblem(f"{spec.dataset}: class {most} is scored and has no training image; {splits.classes} have")
    if len(train) < 2 or len(splits.scored) < 1:
        few = f"{len(splits.scored)} {'test' if tested else 'validation'}"
        raise DataProblem(f"{spec.dataset}: {len(train)} training and {few} images are too few")
    return splits


def statistics(train: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the training images, in 0..1."""
    total = train.source.sums[train.indices].sum(0).astype(np.float64)  # C 2
    pixels = len(train) * train.source.images.shape[1] * train.source.images.shape[2]
    mean = total[:, 0] / pixels
    std = np.sqrt(np.maximum(total[:, 1] / pixels - mean**2, 1.0))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def constants(spec: RunSpec, train: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The normalising constants of a run: the user's own, or those of its training images.

    Raises:
        DataProblem: constants for another number of channels than the images have.
    """
    given = spec.resolved.constants
    if given is None:
        return statistics(train)
    channels = train.source.images.shape[3]
    if len(given[0]) != channels:
        raise DataProblem(
            f"normalise={spec.normalise!r} is for {len(given[0])} channels, {spec.dataset} has {channels}"
        )
    return given


def duplicates(splits: Splits) -> list[tuple[str, str]]:
    """Pairs of exactly equal images in different splits, as "split: file" each."""
    where: dict[bytes, list[tuple[str, str]]] = {}
    for split in (splits.train, splits.val, splits.test):
        for index in split.indices if split else ():
            assert split is not None
            key = split.source.pixels[index].tobytes()
            where.setdefault(key, []).append((split.name, split.source.files[index]))
    return [
        (f"{one[0]}: {one[1]}", f"{two[0]}: {two[1]}")
        for same in where.values()
        for number, one in enumerate(same)
        for two in same[number + 1 :]
        if one[0] != two[0]
    ]


def stratified(labels: np.ndarray, keys: np.ndarray, salt: str) -> np.ndarray:
    """An order of the images whose every beginning has the classes in proportion; from content, not from a generator.

    Args:
        labels: int N.
        keys: V16 N, a hash of each image.
        salt: another salt gives another order.

    Returns:
        int64 N, a permutation.
    """
    hashes = np.array([hashlib.sha256(salt.encode() + key.tobytes()).digest() for key in keys], "V32")
    place = np.empty(len(labels))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        order = mine[np.argsort(_sortable(hashes[mine]), kind="stable")]
        place[order] = (np.arange(len(order)) + 0.5) / len(order)
    return np.lexsort((_sortable(hashes), place))


def _sortable(hashes: np.ndarray) -> np.ndarray:
    """The first 8 bytes of each hash as a number."""
    return np.frombuffer(hashes.tobytes(), ">u8").reshape(len(hashes), -1)[:, 0]


def _whole(name: str, source: Decoded) -> Split:
    return Split(name, source, np.arange(len(source.labels)))


def _cut(source: Decoded, indices: np.ndarray | None, share: float, name: str, draw: int) -> tuple[Split, Split]:
    """Set a stratified share apart under `name`; the rest is train. Each `draw` cuts otherwise."""
    mine = np.arange(len(source.labels)) if indices is None else indices
    order = stratified(source.labels[mine], source.keys[mine], _salt(name, draw))
    count = round(share * len(mine))
    if not 0 < count < len(mine):
        raise DataProblem(f"a {name} split of {share:g} of {len(mine)} images has {count}")
    part, rest = mine[np.sort(order[:count])], mine[np.sort(order[count:])]
    return Split("train", source, rest), Split(name, source, part)


def _some(split: Split, count: int | None, salt: str, draw: int) -> Split:
    """At most `count` images of a split, stratified."""
    if count is None or count >= len(split):
        return split
    order = stratified(split.labels, split.source.keys[split.indices], _salt(salt, draw))
    return Split(split.name, split.source, split.indices[np.sort(order[:count])])


def _salt(name: str, draw: int) -> str:
    return f"{name} {draw}" if draw else name
