"""The runs that tell how much each source of chance moves an accuracy: one source varied alone, and all together."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from attnbench.analysis.variance import TOGETHER, Budget, budget
from attnbench.data.splits import load_splits
from attnbench.errors import BadSpec, StoreProblem
from attnbench.networks.network import network_of
from attnbench.seeding import seeded
from attnbench.spec.arm import ArmKey, labels, meant
from attnbench.spec.run import RunSpec, Source
from attnbench.spec.study import Study
from attnbench.store.runs import RunRecord, Store


@dataclass(frozen=True)
class Varied:
    """The runs of one arm by what is varied in them, and why some sources are not."""

    runs: dict[str, list[RunSpec]]
    """Source, or `all` -> a run for each seed; all of them share the run of seed 0."""
    without: dict[str, str]
    """Source that has no effect here -> why."""


def varied(spec: RunSpec, seeds: int, data_dir: str) -> Varied:
    """Each source of chance varied alone over seeds 0, 1, ..., and `all` that a study's seeds vary, together.

    Raises:
        DataProblem: the data are not there, so that nobody can tell what is drawn.
    """
    runs = {"all": _over(spec, "all", seeds)}
    without: dict[str, str] = {}
    for source in get_args(Source):
        try:
            runs[source] = _over(spec, source, seeds)
        except BadSpec as problem:
            without[source] = str(problem).split(": ")[-1]
    if not _draws(spec, data_dir):
        runs.pop("noise")
        without["noise"] = "the network draws nothing in training"
    return Varied(runs, without)


def runs_of(study: Study, asked: str, seeds: int, data_dir: str) -> dict[str, Varied]:
    """The runs of one arm of a study by cell, with the cell's name in few words.

    Raises:
        BadReference: the study has no such arm, or several.
        DataProblem: the data are not there.
    """
    found = {}
    for cell, arms in study.cells().items():
        spec = arms[meant(asked, _labels(arms))][0]
        found[cell] = varied(spec, seeds, data_dir)
    return found


def budgets(study: Study, asked: str, cells: Mapping[str, Varied], store: Store) -> list[Budget]:
    """The budget of each cell of which a run is done.

    Raises:
        StoreProblem: none is.
    """
    found = []
    for cell, arms in study.cells().items():
        names, mine = _labels(arms), cells[cell]
        records = {source: _records(store, runs) for source, runs in mine.runs.items()}
        others = {names[arm]: _records(store, runs) for arm, runs in arms.items() if arm != meant(asked, names)}
        if any(record.done for record in records[TOGETHER]):
            title = cell.rsplit(", ", 1)[0]  # data set and backbone
            found.append(budget(title, records, others, mine.without))
    if not found:
        raise StoreProblem(f"{study.name}: no run of {asked} is done, so that nothing can be said of its spread")
    return found


def _labels(arms: Mapping[ArmKey, Sequence[RunSpec]]) -> dict[ArmKey, str]:
    return labels({arm: specs[0].resolved.attention.placed.site for arm, specs in arms.items()})


def _records(store: Store, runs: Sequence[RunSpec]) -> list[RunRecord]:
    return [record for spec in runs if (record := store.record(spec.id)) is not None]


def _over(spec: RunSpec, vary: Source | Literal["all"], seeds: int) -> list[RunSpec]:
    return [dataclasses.replace(spec, vary=vary, seed=seed) for seed in range(seeds)]


def _draws(spec: RunSpec, data_dir: str) -> bool:
    """Whether a training pass depends on anything but weights and images: dropout, stochastic depth and the like."""
    splits = load_splits(spec, data_dir)
    model = network_of(spec, splits.classes, splits.channels, splits.image_size).train()
    with seeded(0, "probe"), torch.no_grad():
        images = torch.randn(4, splits.channels, splits.image_size, splits.image_size)
        passes = []
        for draw in range(2):
            with seeded(draw, "noise"):
                passes.append(model(images))
    return not torch.equal(*passes)
