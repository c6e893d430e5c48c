"""What a run said of each test image, and how good that is beyond accuracy: calibration and the classes one by one."""

import math
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from attnbench.errors import StoreProblem
from attnbench.files import replacing
from attnbench.store.archives import archive

BINS = 15
ARRAYS: "dict[str, np.dtype[Any]]" = {
    "logits": np.dtype(np.float16),
    "labels": np.dtype(np.int64),
    "predicted": np.dtype(np.int64),
}
"""The arrays of a file, with their types."""
MOST_BYTES = 1 << 30
"""Of the arrays of a file that a stranger made."""
_DAMAGED = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, SyntaxError, TokenError)
AGAIN = "delete the run's folder to train it again"
LARGEST = float(np.finfo(np.float16).max)


def write(file: Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """Write what `Predictions` reads, in one step.

    Args:
        logits: float32 N x K; kept as float16 (at most 65,504 in size), beside the classes of the full precision.
        labels: int64 N.
    """
    with replacing(file, "wb") as target:
        kept = np.clip(logits, -LARGEST, LARGEST).astype(np.float16)
        np.savez_compressed(target, logits=kept, labels=labels, predicted=logits.argmax(1))


def read(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that a stranger may have made: `logits` N x K, `labels` and `predicted` N.

    Sizes and types are looked at before anything is unpacked, and nothing is ever unpickled.

    Raises:
        ValueError: it holds anything else than these arrays; one reason.
    """
    try:
        with file.open("rb") as source, archive(source, len(ARRAYS), MOST_BYTES) as found:
            if sorted(found.namelist()) != sorted(f"{name}.npy" for name in ARRAYS):
                raise ValueError(f"holds {', '.join(found.namelist()) or 'nothing'}, not {', '.join(ARRAYS)}")
            arrays = {name: _strictly(found, f"{name}.npy", kind) for name, kind in ARRAYS.items()}
    except (*_DAMAGED, MemoryError, RecursionError) as problem:
        raise ValueError(f"cannot be read ({problem})") from None
    logits, labels, predicted = arrays.values()
    if logits.ndim != 2 or labels.shape != predicted.shape or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(f"logits {logits.shape}, labels {labels.shape} and classes {predicted.shape} do not fit")
    if not np.isfinite(logits).all():
        raise ValueError("logits are not finite")
    for name in ("labels", "predicted"):
        if arrays[name].min() < 0 or arrays[name].max() >= logits.shape[1]:
            raise ValueError(f"{name} are not all among the {logits.shape[1]} classes of the logits")
    return arrays


def _strictly(found: zipfile.ZipFile, name: str, kind: "np.dtype[Any]") -> np.ndarray:
    """One array, if its header says what it should, and as many bytes follow as it says."""
    with found.open(name) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{name} is of another format than 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype != kind:
            raise ValueError(f"{name} holds {dtype}, not {kind}")
        if math.prod(shape) * kind.itemsize != found.getinfo(name).file_size - member.tell():
            raise ValueError(f"{name} has another size than its header says")
        array: np.ndarray = np.frombuffer(member.read(), kind).reshape(shape, order="F" if fortran else "C")
    return array


class Predictions:
    """The arrays of a `predictions.npz`, read when they are first asked for: both lists of classes at once."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def labels(self) -> np.ndarray:
        """int64 N, the true classes."""
        return self._classes[0]

    @property
    def predicted(self) -> np.ndarray:
        """int64 N, the classes of the full-precision logits."""
        return self._classes[1]

    @property
    def correct(self) -> np.ndarray:
        """bool N."""
        right: np.ndarray = self.predicted == self.labels
        return right

    def scores(self) -> "Scores":
        """Everything that the logits say; they are not kept.

        Raises:
            StoreProblem: the arrays cannot be read, or do not fit together.
        """
        (logits,) = self._arrays("logits")
        if logits.shape[:1] != self.labels.shape or not logits.size:
            raise StoreProblem(f"{self.file}: {len(logits)} logits, {len(self.labels)} labels; {AGAIN}")
        if not np.isfinite(logits).all():
            raise StoreProblem(f"{self.file}: logits are not finite; {AGAIN}")
        both = np.stack([self.labels, self.predicted])
        if both.min() < 0 or both.max() >= logits.shape[1]:
            raise StoreProblem(f"{self.file}: classes are not all among the {logits.shape[1]} of the logits; {AGAIN}")
        return scores(logits, self.labels, self.predicted)

    @cached_property
    def _classes(self) -> list[np.ndarray]:
        labels, predicted = found = self._arrays("labels", "predicted")
        if labels.shape != predicted.shape:
            raise StoreProblem(f"{self.file}: {len(predicted)} predictions of {len(labels)} images; {AGAIN}")
        return found

    def _arrays(self, *names: str) -> list[np.ndarray]:
        try:
            with self.file.open("rb") as source:  # numpy leaves a damaged file open
                archive(source, len(ARRAYS), MOST_BYTES).close()  # a stranger may have made it
                source.seek(0)
                with np.load(source, allow_pickle=False) as arrays:
                    found = [arrays[name] for name in names]
            for name, values in zip(names, found, strict=True):
                if values.dtype != ARRAYS[name] or values.ndim != 1 + (name == "logits"):
                    raise ValueError(f"{name} holds {values.dtype} in {values.ndim} dimensions")
        except (*_DAMAGED, MemoryError, RecursionError, RuntimeError, ValueError, LookupError, TypeError) as problem:
            raise StoreProblem(f"{self.file} cannot be read ({problem}); {AGAIN}") from None
        return found


@dataclass(frozen=True)
class Scores:
    """One run's test scores beside accuracy."""

    nll: float
    """Negative log-likelihood of the true class, in nats: mean over images."""
    brier: float
    """Sum over classes of squared errors of the probabilities (Brier 1950): mean over images, 0 to 2."""
    ece: float
    """Expected calibration error in percentage points, 15 bins of equal width (Guo 2017, 1706.04599)."""
    ece_if_calibrated: float
    """What `ece` would be expected to be by chance if every confidence were right, with so many images."""
    macro_f1: float
    """Mean over classes of F1, in percent."""
    balanced_accuracy: float
    """Mean over classes of recall, in percent."""
    recalls: np.ndarray
    """K, percent; nan for a class without test images."""
    reliability: np.ndarray
    """3 x 15: images in each bin of confidence, their summed confidence, and how many were right."""


def scores(logits: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> Scores:
    """Calibration and per-class scores of one run.

    Args:
        logits: N x K, any float type.
        labels, predicted: N true and predicted classes.
    """
    shifted = np.ascontiguousarray(logits.T, np.float64)  # a class a row: sums over classes are then fast
    shifted -= shifted.max(0)
    weights, images = np.exp(shifted), np.arange(len(labels))
    total = weights.sum(0)
    of_true, confidence, right = weights[labels, images] / total, 1 / total, predicted == labels
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    reliability = np.array([np.bincount(places, weights, BINS) for weights in (None, confidence, right)])
    chance = np.bincount(places, confidence * (1 - confidence), BINS)
    recalls, f1 = _by_class(labels, predicted, logits.shape[1])
    return Scores(
        nll=float((np.log(total) - shifted[labels, images]).mean()),
        brier=float((np.einsum("ki,ki->i", weights, weights) / total**2 - 2 * of_true + 1).mean()),
        ece=100 * float(np.abs(reliability[1] - reliability[2]).sum()) / len(labels),
        ece_if_calibrated=100 * float(_mean_size(chance).sum()) / len(labels),
        macro_f1=float(np.nanmean(f1)),
        balanced_accuracy=float(np.nanmean(recalls)),
        recalls=recalls,
        reliability=reliability,
    )


def _mean_size(variances: np.ndarray) -> np.ndarray:
    """Expected size of how far a number of right answers lies from the sum of its chances, given its variance.

    A normal's, sqrt(2 variance / pi), but never above what the single answers' sizes add up to: 2 variance.
    """
    found: np.ndarray = np.minimum(np.sqrt(2 / np.pi * variances), 2 * variances)
    return found


def _by_class(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and F1 of each class in percent; nan where a class has no image, for F1 where it was not said either."""
    there, said = np.bincount(labels, minlength=classes), np.bincount(predicted, minlength=classes)
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    with np.errstate(invalid="ignore"):
        return 100 * hits / there, 200 * hits / (there + said)
