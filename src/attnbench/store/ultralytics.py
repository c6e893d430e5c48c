"""Scores of training runs as the ultralytics package leaves them: a folder each, with `results.csv` and `args.yaml`.

A row of `results.csv` is an epoch; versions before 8.3 pad names and numbers with blanks. `args.yaml` holds the
arguments of the training. Both as `ultralytics/engine/trainer.py` writes them (`save_metrics`, `save_dir`).
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.catalogue.refs import nearest
from attnbench.errors import BadScores
from attnbench.store.origin import Origin
from attnbench.store.scores import MOST_TOLD, Table

METRIC = "metrics/mAP50-95(B)"
OWN = ("seed", "name", "save_dir", "project", "device", "workers", "exist_ok", "resume", "plots", "verbose", "save")
"""Arguments that may differ between runs that are compared."""
FITNESS: Sequence[Mapping[str, float]] = (
    {"metrics/mAP50-95(": 1, "metrics/accuracy_top": 1, "metrics/mIoU": 1, "metrics/delta1": 1},
    {"metrics/mAP50(": 0.1, "metrics/mAP50-95(": 0.9},
)
"""How metrics begin, and their weights in the sum by which ultralytics tells the best epoch: now, and formerly."""


@dataclass(frozen=True)
class _Run:
    """One training run."""

    folder: Path
    arguments: Mapping[str, Any]
    epochs: Sequence[Mapping[str, str]]

    def unfinished(self) -> str:
        """Say it, where neither all epochs were trained nor training stopped for want of improvement."""
        done, asked = len(self.epochs), self.arguments.get("epochs")
        if not isinstance(asked, int) or done >= asked or self.arguments.get("time") or self._stopped():
            return ""
        return f"{self.folder.name} ended after {done} of {asked} epochs, and its score is of there"

    def _stopped(self) -> bool:
        """Whether the best epoch lies `patience` epochs back, which is where ultralytics stops."""
        patience = self.arguments.get("patience")
        return isinstance(patience, int) and any(0 < patience <= self._since_best(weights) for weights in FITNESS)

    def _since_best(self, weights: Mapping[str, float]) -> int:
        """Epochs since the best one; 0 as long as none is above 0."""
        sums = [_weighted(epoch, weights) for epoch in self.epochs]
        return len(sums) - 1 - sums.index(max(sums)) if max(sums) > 0 else 0


def trained(folder: Path, origin: Origin, lower_is_better: bool = False) -> Table:
    """The runs below a folder, each with a `results.csv`; arms by `model`, cells by `data`, unless told otherwise.

    Raises:
        BadScores: there are none, or files or columns are missing.
    """
    runs = [_run(file.parent) for file in sorted(folder.rglob("results.csv"))]
    if not runs:
        raise BadScores([f"{folder}/ holds no results.csv, which ultralytics writes into the folder of each run"])
    metric, arm = origin.metric or METRIC, origin.arm_param or "model"
    _expect(folder, runs, metric, [name for name in (arm, origin.seed_param, origin.cell_param) if name])
    cells = _column(runs, origin.cell_param or "data")
    columns: dict[str, Sequence[object]] = {
        "arm": _column(runs, arm),
        "seed": _column(runs, origin.seed_param),
        "score": [_score(run, metric, origin.row, lower_is_better) for run in runs],
        "cell": cells,
    }
    if len({*columns["arm"]}) == 1:
        _refuse_one(folder, runs, arm)
    places = [str(run.folder.relative_to(folder)) for run in runs]
    which = "of the last epoch" if origin.row == "last" else "of the epoch where it is best, chosen by itself"
    notes = [f"each score is {metric} {which}, on the validation images of the training"]
    early = [note for run in runs if (note := run.unfinished())]
    notes += early[:MOST_TOLD]
    notes += [f"{len(early) - MOST_TOLD} more runs ended early"] if len(early) > MOST_TOLD else []
    return Table(folder.resolve().name, columns, places, metric, (*notes, *_confounded(runs, cells, arm, origin)))


def _run(folder: Path) -> _Run:
    import yaml

    file = folder / "args.yaml"
    try:
        arguments = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadScores([f"{file} is missing; it says the model and the seed of the run"]) from None
    except (OSError, ValueError, yaml.YAMLError) as problem:
        raise BadScores([f"{file} cannot be read: {str(problem).splitlines()[0]}"]) from None
    if not isinstance(arguments, dict):
        raise BadScores([f"{file} does not hold the arguments of a training"])
    try:
        with (folder / "results.csv").open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, ValueError, csv.Error) as problem:
        raise BadScores([f"{folder / 'results.csv'} cannot be read: {problem}"]) from None
    epochs = [{name.strip(): (value or "").strip() for name, value in row.items() if name} for row in rows]
    if not epochs:
        raise BadScores([f"{folder / 'results.csv'} holds no epoch"])
    return _Run(folder, arguments, epochs)


def _column(runs: Sequence[_Run], argument: str) -> list[str]:
    """An argument of every run as text: of paths the last part, or as many more as tell all of them apart."""
    values = [run.arguments.get(argument) for run in runs]
    texts = ["" if value is None else str(value) for value in values]
    for parts in range(1, 1 + max(len(Path(text).parts) for text in texts)):
        short = [str(Path(*Path(text).parts[-parts:])) if text else "" for text in texts]
        if len({*short}) == len({*texts}):
            return short
    return texts


def _expect(folder: Path, runs: Sequence[_Run], metric: str, arguments: Sequence[str]) -> None:
    """Refuse a metric or an argument that a run does not have."""
    for run in runs:
        there = list(run.epochs[-1])
        if metric not in there:
            hint = nearest(metric, [name for name in there if name.startswith("metrics/")] or there)
            raise BadScores([f"{run.folder / 'results.csv'}: no column {metric!r}{hint} (--metric)"])
        for name in arguments:
            if name not in run.arguments:
                raise BadScores([f"{run.folder / 'args.yaml'}: no argument {name!r}{nearest(name, run.arguments)}"])


def _score(run: _Run, metric: str, row: str, lower_is_better: bool) -> object:
    """The metric of one epoch; text that is no number goes on as it is, to be refused with its place."""
    if row == "last":
        return run.epochs[-1][metric]
    try:
        finite = [value for value in (float(epoch[metric]) for epoch in run.epochs) if math.isfinite(value)]
    except ValueError:
        raise BadScores([f"{run.folder / 'results.csv'}: {metric} holds text that is no number"]) from None
    return (min if lower_is_better else max)(finite, default=math.nan)


def _weighted(epoch: Mapping[str, str], weights: Mapping[str, float]) -> float:
    """The weighted sum of an epoch's metrics; one that is not finite counts as 0."""
    found = [(weight, epoch[name]) for begin, weight in weights.items() for name in epoch if name.startswith(begin)]
    return sum(weight * _number(text) for weight, text in found)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


def _refuse_one(folder: Path, runs: Sequence[_Run], arm: str) -> None:
    told = ", ".join(_differing(runs, (*OWN, arm))) or "none"
    raise BadScores(
        [f"{folder}/: all {len(runs)} runs have one {arm}; arguments that differ and could be --arm-param: {told}"]
    )


def _confounded(runs: Sequence[_Run], cells: Sequence[str], arm: str, origin: Origin) -> list[str]:
    """Arguments that differ between the runs of a cell beside the arm's own."""
    cell = origin.cell_param or "data"
    groups: dict[str, list[_Run]] = {}
    for run, name in zip(runs, cells, strict=True):
        groups.setdefault(name, []).append(run)
    found = {name for group in groups.values() for name in _differing(group, (*OWN, arm, cell, origin.seed_param))}
    if not found:
        return []
    return [f"runs of one cell differ in {', '.join(sorted(found))} too: a verdict is about all of that together"]


def _differing(runs: Sequence[_Run], apart: Sequence[str]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run.arguments if name not in apart)
    return [name for name in names if len({repr(run.arguments.get(name)) for run in runs}) > 1]
