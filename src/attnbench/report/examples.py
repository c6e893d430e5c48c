"""Test images on which the best mechanism and the baseline disagree most, with what every arm answers."""

import base64
import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.analysis.cells import Arm, Cell
from attnbench.errors import AttnbenchError
from attnbench.report.evidence import class_name, leader, predictions_of
from attnbench.store.predictions import Predictions

MOST_IMAGES = 5
"""Of those that the mechanism gets right more often, and again of those that the baseline does."""
MOST_ARMS = 6


@dataclass(frozen=True)
class Example:
    """A test image and the answers to it."""

    picture: str
    """A PNG file as a `data:` address."""
    name: str
    """Its class."""
    answers: tuple[str, ...]
    """What each arm says most often, and in how many of its runs."""


@dataclass(frozen=True)
class Examples:
    """The arms whose answers are told, and the images."""

    arms: tuple[str, ...]
    images: tuple[Example, ...]


def examples(cell: Cell, data_dir: str | Path | None) -> Examples | None:
    """Those of a cell; None without predictions, or where the images of its runs do not lie in `data_dir`.

    Nothing is downloaded for it, and no image outside a data folder that is there already is opened.
    """
    best = leader(cell)
    if data_dir is None or best is None or cell.baseline is None or not Path(data_dir).is_dir():
        return None
    told = [cell.baseline, best, *(arm for arm in cell.arms if arm not in (cell.baseline, best))][:MOST_ARMS]
    known = {arm.name: found for arm in told if (found := predictions_of(arm))}
    if not {cell.baseline.name, best.name} <= set(known):
        return None
    pixels = _pixels(cell.baseline, Path(data_dir))
    if pixels is None:
        return None
    places = _apart(known[best.name], known[cell.baseline.name])
    labels = known[best.name][0].labels
    shown = [
        Example(
            _png(pixels(place)),
            class_name(cell, int(labels[place])),
            tuple(_answer(cell, runs, place) for runs in known.values()),
        )
        for place in places
    ]
    return Examples(tuple(known), tuple(shown)) if shown else None


def _apart(one: Sequence[Predictions], two: Sequence[Predictions]) -> list[int]:
    """The images on which one arm is right most more often than the other, and those on which it is least."""
    right, other = (np.mean([run.correct for run in runs], axis=0) for runs in (one, two))
    gain = right - other
    order = np.argsort(-gain, kind="stable")
    won = [int(place) for place in order[:MOST_IMAGES] if gain[place] > 0]
    return won + [int(place) for place in order[::-1][:MOST_IMAGES] if gain[place] < 0]


def _answer(cell: Cell, runs: Sequence[Predictions], place: int) -> str:
    said, counts = np.unique([run.predicted[place] for run in runs], return_counts=True)
    most = int(counts.argmax())
    return f"{class_name(cell, int(said[most]))} ({counts[most]} of {len(runs)})"


def _pixels(arm: Arm, data_dir: Path) -> Callable[[int], np.ndarray] | None:
    """From the number of a test image to its pixels, uint8 H W C; None where the images are not those of the run."""
    from attnbench.data.cache import there
    from attnbench.data.splits import load_splits
    from attnbench.store.asked import spec_of

    record = arm.records[0]
    with contextlib.suppress(AttnbenchError, OSError):
        spec = spec_of(record)
        if there(spec.resolved.dataset, data_dir):
            splits = load_splits(spec, data_dir)
            if splits.split_fingerprint == record.split_fingerprint:
                tested = splits.scored
                return lambda place: np.asarray(tested.source.images[tested.indices[place]])
    return None


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(packed, "png")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"
