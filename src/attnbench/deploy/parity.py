"""Whether a network computes the same wherever it runs: each form and each runtime beside the network itself."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from attnbench.data.splits import Splits
from attnbench.deploy.exporting import Forms, difference
from attnbench.deploy.quantising import CALIBRATION, accuracy, in_batches, quantised, some
from attnbench.deploy.runtimes import FROM_ONNX, Run, started
from attnbench.errors import NotExported

COMPARED = ("pt2", "onnxruntime", "openvino")
INT8 = ("onnxruntime", "openvino")


@dataclass
class Parity:
    """One network beside its exported forms, on real images."""

    images: int
    accuracy: float
    """Percent, of the network itself."""
    differences: dict[str, float] = field(default_factory=dict)
    """Runtime -> largest difference of its logits, relative to the largest; without those that it cannot run in."""
    int8: dict[str, float] = field(default_factory=dict)
    """Runtime -> accuracy in percent of the network in INT8."""
    refused: list[dict[str, str]] = field(default_factory=list)
    """Who refuses it, which operator, and why: each once."""


def compared(forms: Forms, splits: Splits) -> Parity:
    """Run a network in every runtime on the images that it is scored on, and in INT8.

    Args:
        forms: of a network that takes uint8 images B C H W.
    """
    images, labels = some(splits.scored)
    expected = logits_of(forms.eager, images)
    found = Parity(len(images), accuracy(expected, labels))
    for name in COMPARED:
        with _noting(found):
            found.differences[name] = difference(logits_of(started(name, forms, 1), images), expected)
    content = b""
    with _noting(found):
        content = quantised(forms.onnx, some(splits.train, CALIBRATION)[0])
    for name in INT8 if content else ():
        with _noting(found):
            found.int8[name] = accuracy(logits_of(FROM_ONNX[name](content, 1), images), labels)
    return found


def logits_of(run: Run, images: np.ndarray) -> np.ndarray:
    """What a runtime says of many images N C H W, some at a time: logits N K."""
    return np.concatenate([run(each).copy() for each in in_batches(images)])


@contextlib.contextmanager
def _noting(found: Parity) -> Iterator[None]:
    """Note who refuses the network."""
    try:
        yield
    except NotExported as problem:
        told = {"who": problem.who, "operator": problem.operator, "reason": problem.reason}
        if told not in found.refused:
            found.refused.append(told)
