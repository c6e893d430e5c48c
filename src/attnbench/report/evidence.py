"""What stands behind a verdict, as plain rows: calibration, classes, curves, and what the controls say."""

import contextlib
import itertools
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.stats import Estimate, estimate, gap
from attnbench.catalogue.foreign import barred
from attnbench.catalogue.refs import Ref
from attnbench.catalogue.registry import ATTENTION
from attnbench.console import joined
from attnbench.errors import BadReference, StoreProblem
from attnbench.spec.arm import mechanism
from attnbench.store.predictions import AGAIN, BINS, Predictions, Scores

QUALITY = {
    "nll": "NLL (nats)",
    "brier": "Brier score",
    "ece": "calibration error (points)",
    "macro_f1": "macro F1 (%)",
    "balanced_accuracy": "balanced accuracy (%)",
}
"""A field of Scores -> the head of its column."""
PARTS = ("scale", "parameters", "input dependence")
"""What a mechanism adds to the plain network: that which `constant` has, that which `static` has too, and the rest."""


@dataclass(frozen=True)
class Quality:
    """What the logits of an arm's runs say beside accuracy."""

    arm: str
    estimates: dict[str, Estimate]
    """A key of QUALITY -> its mean over seeds with Student's interval; estimand: this test set."""
    ece_if_calibrated: float
    """What the calibration error of a perfectly calibrated network would be by chance, mean over seeds."""
    recalls: np.ndarray
    """S x K, percent."""
    reliability: np.ndarray
    """3 x 15, summed over seeds: images in a bin of confidence, their confidence, how many were right."""


@dataclass(frozen=True)
class Step:
    """A part of a mechanism's gain, or what becomes of it with other gates."""

    arm: str
    part: str
    what: str
    """Which two things are compared."""
    estimate: Estimate


def quality(cell: Cell) -> list[Quality]:
    """Calibration and per-class scores of the arms whose runs all have predictions.

    Raises:
        StoreProblem: predictions that cannot be read, or are of other numbers of classes.
    """
    found, sizes = [], dict[int, Predictions]()
    for arm in cell.arms:
        if runs := predictions_of(arm):
            scored = [run.scores() for run in runs]
            sizes |= {len(one.recalls): run for run, one in zip(runs, scored, strict=True)}
            if len(sizes) > 1:
                told = joined([f"{run.file} has {classes} classes" for classes, run in sizes.items()])
                raise StoreProblem(f"{told}, in one cell; {AGAIN}")
            found.append(_quality(arm.name, scored))
    return found


def predictions_of(arm: Arm) -> list[Predictions]:
    """Those of all runs of an arm; none where a run kept none."""
    found = [record.predictions for record in arm.records]
    known = [each for each in found if each is not None]
    return known if len(known) == len(found) else []


def calibration_chance(found: Quality) -> str:
    """What of the calibration error is chance, as a remark beside it."""
    return f"({found.ece_if_calibrated:.2f} expected of a perfectly calibrated network)"


def class_differences(cell: Cell, qualities: Iterable[Quality]) -> list[dict[str, Any]]:
    """Recall of each class less the baseline's, in points, with Welch's interval; a row per mechanism and class."""
    by_arm, rows = {each.arm: each.recalls for each in qualities}, []
    if cell.baseline is None or cell.baseline.name not in by_arm:
        return []
    base = by_arm.pop(cell.baseline.name)
    controls = {arm.name for arm in cell.arms if arm.control}
    for arm, recalls in by_arm.items():
        for place in range(recalls.shape[1]) if arm not in controls else ():
            if not np.isnan(recalls[:, place]).any():
                found = gap(recalls[:, place], base[:, place])
                name = class_name(cell, place)
                rows.append({"arm": arm, "class": name, "mean": found.mean, "low": found.low, "high": found.high})
    return rows


def leader(cell: Cell) -> Arm | None:
    """The mechanism with the largest difference to the baseline, controls left out; None where none is compared."""
    compared = [arm for arm in cell.arms if arm.contrast and not arm.control]
    sign = 1 if cell.measure.higher_is_better else -1
    return max(compared, key=lambda arm: (not math.isnan(_gain(arm)), sign * _gain(arm)), default=None)


def _gain(arm: Arm) -> float:
    return arm.difference.mean if arm.difference else math.nan


def confusions(cell: Cell, arms: Iterable[Arm], most: int) -> list[tuple[Arm, list[dict[str, Any]], list[str]]]:
    """Of each arm the share in percent of a class's images that is taken for each class, mean over seeds.

    Args:
        most: of more classes those are kept that the first of the arms confuses most, the same for all.

    Returns:
        An arm, a row a pair of classes (`wrong` is the share where they differ, else 0), and the classes in order;
        nothing of an arm with a run without predictions.
    """
    given = [(arm, runs) for arm in arms if (runs := predictions_of(arm))]
    if not given:
        return []
    classes = 1 + max(int(max(one.labels.max(), one.predicted.max())) for _, every in given for one in every)
    known = [(arm, _shares(every, classes)) for arm, every in given]
    first = np.nan_to_num(known[0][1])
    off = first.sum(1) - first.diagonal() + first.sum(0) - first.diagonal()
    kept = sorted(np.argsort(-off, kind="stable")[:most].tolist())
    names = [class_name(cell, place) for place in kept]
    return [(arm, _pairs_of_classes(share[np.ix_(kept, kept)], names), names) for arm, share in known]


def _shares(runs: Iterable[Predictions], classes: int) -> np.ndarray:
    """K x K in percent, a class as it is in rows; nan where it has no image."""
    counts = np.zeros((classes, classes))
    for run in runs:
        np.add.at(counts, (run.labels, run.predicted), 1)
    with np.errstate(invalid="ignore"):
        shares: np.ndarray = 100 * counts / counts.sum(1, keepdims=True)
    return shares


def _pairs_of_classes(share: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    return [
        {"true": one, "told": other, "percent": float(share[i, j]), "wrong": float(share[i, j]) * (i != j)}
        for i, one in enumerate(names)
        for j, other in enumerate(names)
        if share[i, j] > 0 or (i == j and share[i, j] == 0)
    ]


def class_name(cell: Cell, place: int) -> str:
    """As the images' folder or the data set calls it; its number where nothing does."""
    names = next(record.input for arm in cell.arms for record in arm.records).get("names") or []
    return str(names[place]) if place < len(names) else str(place)


def reliability_rows(found: Iterable[Quality]) -> list[dict[str, Any]]:
    """Mean confidence and accuracy of each bin that holds images, in percent."""
    return [
        {
            "arm": each.arm,
            "confidence": 100 * each.reliability[1, place] / each.reliability[0, place],
            "accuracy": 100 * each.reliability[2, place] / each.reliability[0, place],
            "share": 100 * each.reliability[0, place] / each.reliability[0].sum(),
        }
        for each in found
        for place in range(BINS)
        if each.reliability[0, place]
    ]


def curves(cell: Cell) -> list[dict[str, Any]]:
    """Mean, least and most over seeds of loss and accuracy after each epoch, in training and validation."""
    rows = []
    for arm in cell.arms:
        for epoch, points in enumerate(zip(*(record.curves for record in arm.records), strict=False), start=1):
            for split, curve in itertools.product(("train", "val"), ("loss", "accuracy")):
                known = (point.get(f"{split}_{curve}", math.nan) for point in points)
                values = [value for value in known if math.isfinite(value)]  # strangers write nan
                if values:
                    about = {"arm": arm.name, "curve": curve, "split": split, "epoch": epoch}
                    rows.append({**about, "mean": statistics.fmean(values), "low": min(values), "high": max(values)})
    return rows


def decomposition(cell: Cell) -> list[Step]:
    """What the controls and the other gates that were run say about each mechanism's gain.

    The steps from the plain network by `constant` and `static` to the mechanism add up to its gain: what the scale
    does, what learned parameters add without a look at the image, what looking at the image adds. Over another baseline
    there are none. Intervals are Welch's; for other gates in a trained network, Student's over the runs. None is
    corrected for their number.
    """
    steps = []
    for arm in cell.arms:
        if not arm.control and arm is not cell.baseline:
            steps += [*_ladder(cell, arm), *_untrained(cell, arm), *_other_gates(arm)]
    return steps


def _quality(arm: str, scores: list[Scores]) -> Quality:
    return Quality(
        arm=arm,
        estimates={name: estimate([getattr(each, name) for each in scores]) for name in QUALITY},
        ece_if_calibrated=statistics.fmean(each.ece_if_calibrated for each in scores),
        recalls=np.stack([each.recalls for each in scores]),
        reliability=np.sum([each.reliability for each in scores], axis=0),
    )


def _ladder(cell: Cell, arm: Arm) -> list[Step]:
    """From the plain network up to the mechanism, by the controls that were run and the scores that the gain is of.

    Where a control was not run, its part is told together with the next one.
    """
    controls = [cell.beside(arm, "constant"), cell.beside(arm, "static")]
    if cell.baseline is None or mechanism(cell.baseline.key) != "none" or arm.contrast is None or not any(controls):
        return []
    own, plain = arm.contrast.compared
    rungs = [*((one.name, one.sample.values) if one else None for one in controls), (arm.name, own)]
    steps, parts, (lower, below) = list[Step](), list[str](), (cell.baseline.name, plain)
    for part, rung in zip(PARTS, rungs, strict=True):
        parts.append(part)
        if rung is not None:
            steps.append(Step(arm.name, joined(parts), f"{rung[0]} - {lower}", gap(rung[1], below)))
            parts, (lower, below) = [], rung
    return steps


def _untrained(cell: Cell, arm: Arm) -> list[Step]:
    """Against the same mechanism with its parameters frozen as they were drawn."""
    own = mechanism(arm.key)
    if not own:
        return []
    asked = str(Ref("random", (("of", own),)))
    with barred(), contextlib.suppress(BadReference):  # somebody's own mechanism has one spelling already
        asked = ATTENTION.canonical(asked)
    frozen = cell.beside(arm, asked)
    if frozen is None:
        return []
    return [Step(arm.name, "training the mechanism", f"{arm.name} - {frozen.name}", gap(arm.values, frozen.values))]


def _other_gates(arm: Arm) -> list[Step]:
    """The same trained networks with the gates of other images, or with mean gates."""
    steps = []
    for gate, what in (("shuffled", "the gates of other images"), ("mean", "the mean gates of the training images")):
        changes = [r.gates[gate]["accuracy"] - r.accuracy for r in arm.records if gate in r.gates]
        if changes:
            steps.append(Step(arm.name, f"gate {gate}", f"{arm.name} with {what} - its own", estimate(changes)))
    return steps
