"""The official images of a data set: a list of their keys and labels, and what differs from it in a data folder.

`official/NAME.npz` holds, for each split, the first 4 bytes of each image's key (`decode.Image.key`), grouped by label
and ascending in each group, and the number of images a label; `benchmarks/manifest.py` makes it. A foreign image is
taken for an official one once in 100,000; the digest on the card, of whole keys, has no such gap.
"""

import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path(__file__).parent / "official"


@dataclass(frozen=True)
class Listed:
    """The official images of one split."""

    keys: np.ndarray
    """uint32 N: the first 4 bytes of each key."""
    labels: np.ndarray
    """int64 N."""


@dataclass(frozen=True)
class Found:
    """The images of a split against the official ones; images are named by their positions."""

    right: int
    """Official images with their official labels."""
    total: int
    """Official images that there are."""
    foreign: tuple[int, ...]
    """Images that are no official ones."""
    relabelled: Mapping[int, int]
    """Official images with another label -> the official label."""
    strayed: Mapping[int, str]
    """Official images of another split -> that split."""
    repeated: tuple[int, ...]
    """Official images that are there more often than officially."""
    missing: Mapping[int, int]
    """Label -> number of its official images that are not there."""

    @property
    def complete(self) -> bool:
        """All official images, and no others."""
        others = (self.foreign, self.relabelled, self.strayed, self.repeated)
        return self.right == self.total and not any(others)


@functools.cache
def listed(name: str) -> dict[str, Listed]:
    """Split -> its official images; empty for a data set of which no list is kept."""
    file = HOME / f"{name}.npz"
    if not file.is_file():
        return {}
    with np.load(file) as arrays:
        splits = [key.removesuffix("_keys") for key in arrays if key.endswith("_keys")]
        return {s: Listed(arrays[f"{s}_keys"], _spread(arrays[f"{s}_counts"])) for s in splits}


def write(name: str, splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """Keep the list of a data set's official images: split -> keys (V16 N) and labels (int64 N)."""
    arrays: dict[str, Any] = {}
    for split, (keys, labels) in splits.items():
        short = shortened(keys)
        arrays[f"{split}_keys"] = short[np.lexsort((short, labels))]
        arrays[f"{split}_counts"] = np.bincount(labels).astype(np.int32)
    HOME.mkdir(exist_ok=True)
    np.savez(HOME / f"{name}.npz", **arrays)
    return HOME / f"{name}.npz"


def shortened(keys: np.ndarray) -> np.ndarray:
    """The first 4 bytes of each key: V16 N to uint32 N."""
    return np.frombuffer(keys.tobytes(), ">u4").reshape(len(keys), -1)[:, 0].astype(np.uint32)


def digest(keys: np.ndarray, labels: np.ndarray) -> str:
    """Hash of all keys (V16 N) with their labels (int64 N), whatever order they are in: 32 hex digits."""
    pairs = sorted(key.tobytes() + int(label).to_bytes(4, "big") for key, label in zip(keys, labels, strict=True))
    return hashlib.sha256(b"".join(pairs)).hexdigest()[:32]


def compared(name: str, split: str, keys: np.ndarray, labels: np.ndarray) -> Found | None:
    """A split's images (keys V16 N, labels int64 N) against the official ones; None where no list is kept."""
    if split not in listed(name):
        return None
    own, others = listed(name)[split], {s: set(o.keys.tolist()) for s, o in listed(name).items() if s != split}
    there, left = list(zip(shortened(keys).tolist(), labels.tolist(), strict=True)), Counter(_pairs(own))
    unmatched = []
    for place, pair in enumerate(there):
        if left[pair] > 0:
            left[pair] -= 1
        else:
            unmatched.append(place)
    awaited = defaultdict(list)
    for key, label in left.elements():
        awaited[key].append(label)
    known, relabelled, strayed = set(own.keys.tolist()), dict[int, int](), dict[int, str]()
    foreign, repeated = list[int](), list[int]()
    for place in unmatched:
        key = there[place][0]
        if awaited[key]:
            relabelled[place] = awaited[key].pop()
        elif elsewhere := [other for other, theirs in others.items() if key in theirs and key not in known]:
            strayed[place] = elsewhere[0]
        else:
            (repeated if key in known else foreign).append(place)
    missing = Counter(label for labels_left in awaited.values() for label in labels_left)
    right = len(there) - len(unmatched)
    return Found(right, len(own.keys), tuple(foreign), relabelled, strayed, tuple(repeated), missing)


def _pairs(own: Listed) -> list[tuple[int, int]]:
    return list(zip(own.keys.tolist(), own.labels.tolist(), strict=True))


def _spread(counts: np.ndarray) -> np.ndarray:
    """Numbers of images a label to the label of each image."""
    return np.repeat(np.arange(len(counts)), counts)
