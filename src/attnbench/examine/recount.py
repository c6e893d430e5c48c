"""What predictions say again of their run: its accuracy to the digit, its loss within what float16 leaves open."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from attnbench.store.predictions import LARGEST
from attnbench.store.record import RunRecord

BLOCK = 1 << 22
"""Logits that are looked at together."""
SINGLE = 1e-5
"""How far a loss that was computed in float32 may lie from the exact one, as a share of 1 + the loss."""


def recounted(record: RunRecord, arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What the record of a run says otherwise than its predictions: a few words each.

    Args:
        arrays: `logits` float16 N x K, `labels` and `predicted` int64 N.
    """
    logits, labels, predicted = (arrays[name] for name in ("logits", "labels", "predicted"))
    said: Mapping[str, Any] = vars(record)[record.scored]
    if wrong := int((logits[np.arange(len(labels)), predicted] < logits.max(1)).sum()):
        yield f"{wrong} of its predicted classes have not the largest logit"  # rounding keeps the largest the largest
    accuracy = 100 * int((predicted == labels).sum()) / len(labels)
    if said["accuracy"] != accuracy:
        yield f"its {record.images} accuracy is {accuracy} by its predictions, {said['accuracy']} by its record"
    low, high = loss_between(logits, labels)
    if not low <= said["loss"] <= high:
        yield f"its loss lies in [{low:.6f}, {high:.6f}] by its predictions, {said['loss']} by its record"
    for what, found, stated in (
        ("images", len(labels), said["images"]),
        ("classes", logits.shape[1], record.input.get("classes")),
    ):
        if found != stated and stated is not None:  # records of old do not say how many classes there are
            yield f"it has {found:,} {what} by its predictions, {stated} by its record"


def loss_between(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Least and largest mean cross entropy, in nats, of the float32 logits that round to these.

    Each lies within half a step of its float16, so the distance to the true class within both halves together.

    Args:
        logits: float16 N x K.
        labels: int64 N.
    """
    if (np.abs(logits) >= LARGEST).any():  # clipped: the others may be as large as they like
        return 0.0, float("inf")
    block = max(1, BLOCK // logits.shape[1])
    parts = [slice(start, start + block) for start in range(0, len(labels), block)]
    sums = np.sum([_log_sums(logits[part], labels[part]) for part in parts], 0) / len(labels)
    low, high = map(float, sums)
    return low - SINGLE * (1 + low), high + SINGLE * (1 + high)


def _log_sums(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Least and largest sum over rows of the cross entropy, as in `loss_between`."""
    rows, wide = np.arange(len(labels)), logits.astype(np.float64)
    half = np.spacing(np.abs(logits)).astype(np.float64) / 2
    apart, room = wide - wide[rows, labels, None], half + half[rows, labels, None]  # N K
    room[rows, labels] = 0.0
    return _sum_of_logs(apart - room), _sum_of_logs(apart + room)


def _sum_of_logs(exponents: np.ndarray) -> float:
    """Sum over rows of the logarithm of the sum of exponentials."""
    top = exponents.max(1, keepdims=True)
    return float((top[:, 0] + np.log(np.exp(exponents - top).sum(1))).sum())
