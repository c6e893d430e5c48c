"""Many runs: skip what is done, give each of the rest a process, keep going after a failure."""

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from attnbench.catalogue.digest import carried
from attnbench.catalogue.registry import Choice
from attnbench.errors import BadReference, Diverged
from attnbench.execution import local
from attnbench.execution.agreement import expectation
from attnbench.execution.children import Ended, Told, ask
from attnbench.execution.display import display
from attnbench.execution.executors import Execution, Task, Workers
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.mlflow import mirrored
from attnbench.store.runs import RunRecord, Store
from attnbench.store.view import View
from attnbench.training.done import pending

POLL_SECONDS = 0.5
"""How long a look at the runs that are training waits for one to end."""


@dataclass(frozen=True)
class Failure:
    """A run that was not done, and why."""

    spec: RunSpec
    reason: str
    trace: str = ""
    """The traceback of the user's own code, where that is why."""


@dataclass(frozen=True)
class Sweep:
    """The runs to make, under one recipe's and one study's name."""

    specs: Sequence[RunSpec]
    runtime: Runtime
    recipe: str = ""
    study: str = ""

    @property
    def store(self) -> Store:
        """Where the runs go."""
        return Store(self.runtime.store)

    def pending(self) -> list[RunSpec]:
        """The runs that are not done on the images as they lie there now, in order."""
        return pending(self.specs, self.store, self.runtime.data_dir)

    def describe(self, spec: RunSpec) -> str:
        """A run in a few words: what it is always called by, and what else varies in this sweep."""
        varied = [f"{name} {getattr(spec, name)}" for name in self._varied]
        return " ".join([spec.dataset, spec.backbone, spec.attention, *varied, f"seed {spec.seed}"])

    @functools.cached_property
    def _varied(self) -> list[str]:
        named = {"dataset", "backbone", "attention", "seed"}
        others = [f.name for f in dataclasses.fields(RunSpec) if f.name not in named]
        return [name for name in others if len({repr(getattr(spec, name)) for spec in self.specs}) > 1]


def execute(sweep: Sweep, how: Execution | None = None) -> list[Failure]:
    """Do every pending run in a process of its own, here or on a cluster; returns those that failed.

    Data, networks and the tracking store are prepared once, here, before anything fans out. Ctrl-C lets each process
    write a checkpoint, and the same call goes on from there.

    Args:
        how: where runs are trained, and how many at a time; None for one after the other on this machine.

    Raises:
        AttnbenchError: something that no run could do anything about.
    """
    how, left, told = how or Execution(), sweep.pending(), Told()
    if not left:
        return []
    here = sweep.runtime if how.executor == "local" else dataclasses.replace(sweep.runtime, device="auto")
    prepared = ask("prepare", {"specs": _sendable(left)}, here, told)
    tasks = [_task(sweep, spec, prepared["images"]) for spec in left]
    mirror = mirrored(sweep.store, [spec.id for spec in left], enabled=sweep.runtime.tracker == "mlflow")
    with mirror, _workers(sweep, how, prepared["devices"]) as workers:
        return _fan_out(sweep, tasks, workers, how.retries, told)


def estimate(sweep: Sweep) -> float | None:
    """Hours of one process for the pending runs (CPU time on a CPU): by done runs like them, else by a few steps."""
    seconds = expected_seconds(sweep.pending(), sweep.runtime)
    return None if None in seconds else sum(value for value in seconds if value is not None) / 3600


def expected_seconds(specs: Sequence[RunSpec], runtime: Runtime) -> list[float | None]:
    """Seconds that each run takes in one process, done or not; None where the number of images is not known."""
    known: dict[str, float | None] = dict(_known_seconds(Store(runtime.store).records()))
    unknown = {_cell(spec.fields): spec for spec in specs if _cell(spec.fields) not in known}
    if unknown:
        measured = ask("estimate", {"specs": _sendable(list(unknown.values()))}, runtime, Told())
        known |= dict(zip(unknown, measured, strict=True))
    return [known[_cell(spec.fields)] for spec in specs]


def _sendable(specs: Sequence[RunSpec]) -> list[dict[str, object]]:
    """The fields of runs as another process understands them: a class that was registered by a name, by its path.

    Raises:
        BadReference: a class that only this process knows.
    """
    found = []
    for spec in specs:
        resolved, fields = spec.resolved, spec.fields
        for name in ("dataset", "attention", "backbone"):
            choice: Choice[Any] = getattr(resolved, name)
            if not choice.entry.importable:
                raise BadReference(
                    f"{name} {fields[name]!r} is defined in a script, a notebook or a function, where the processes of "
                    "a study do not find it; put it into a file of its own and give package.module:Class"
                )
            if not choice.entry.builtin:
                fields[name] = str(choice)
        found.append(fields)
    return found


def _task(sweep: Sweep, spec: RunSpec, images: Mapping[str, str]) -> Task:
    """What the process of a run is told; its journal is mirrored here, not there."""
    fields = _sendable([spec])[0]
    asked = {
        "spec": fields,
        "recipe": sweep.recipe,
        "view": dataclasses.asdict(View.of(spec, sweep.study)),
        "expected": expectation(spec, fields, images),
    }
    return Task(spec.id, asked, dataclasses.replace(sweep.runtime, tracker="none"), _own_code(spec))


def _own_code(spec: RunSpec) -> dict[str, bytes]:
    """The user's own files that a run needs, by where they lie below the folder that they are imported from."""
    found: dict[str, bytes] = {}
    waiting: list[Choice[Any]] = [getattr(spec.resolved, name) for name in ("dataset", "attention", "backbone")]
    while waiting:
        choice = waiting.pop()
        waiting += choice.parts
        if not choice.entry.builtin and choice.entry.source is not None:
            found |= carried(choice.entry.source, choice.entry.target.partition(":")[0])
    return found


def _workers(sweep: Sweep, how: Execution, devices: Sequence[str]) -> AbstractContextManager[Workers]:
    if how.executor == "ray":
        from attnbench.execution import ray

        return ray.workers(how, sweep.runtime)
    if how.executor == "slurm":
        from attnbench.execution import slurm

        return slurm.workers(how, sweep.runtime)
    return local.workers(how, sweep.store, devices)


def _fan_out(sweep: Sweep, tasks: Sequence[Task], workers: Workers, retries: int, told: Told) -> list[Failure]:
    """Have the runs trained, those that died again as long as they have retries; returns the failures."""
    specs = {spec.id: spec for spec in sweep.specs}
    stale = {task.run: record.images_seen for task in tasks if (record := sweep.store.record(task.run)) and record.done}
    open_ = {task.run: (task, retries) for task in tasks}
    failures = []
    with display([specs[run] for run in open_], sweep.describe) as shown:
        try:
            workers.start(tasks)
            while open_:
                again = []
                for run, ended in workers.ended(POLL_SECONDS):
                    task, left = open_.pop(run)
                    failure = _failure(sweep, specs[run], ended, told, stale.get(run))
                    if failure and left and ended.code != Diverged.child_exit_code:
                        open_[run] = task, left - 1
                        again.append(task)
                        continue
                    shown.finished(run, sweep.store.record(run), failure.reason if failure else None)
                    failures += [failure] if failure else []
                workers.start(again)
                shown.show(workers.running())
        except BaseException as stopped:  # whatever ends it here, nobody waits for the runs that are still queued
            workers.interrupt()
            if isinstance(stopped, KeyboardInterrupt):
                stopped.args = (shown.stopped(),)
            raise
    return failures


def _failure(sweep: Sweep, spec: RunSpec, ended: Ended, told: Told, stale: tuple[str, str] | None) -> Failure | None:
    """Why a run was not done; None where it was, by its process or by a record of other images than a `stale` one."""
    record = sweep.store.record(spec.id)
    if record and record.done and (ended.code == 0 or record.images_seen != stale):  # it may have died afterwards
        told.show(ended.said)
        return None
    return Failure(spec, ended.reason, ended.trace)


def seconds_taken(record: RunRecord) -> float:
    """What a run took: its training, with preparation and test at the load of the training."""
    share = sum(record.timings.values()) / record.wall_seconds if record.wall_seconds > 0 else 1.0
    return record.train_seconds * share


def _known_seconds(records: list[RunRecord]) -> dict[str, float]:
    """Median seconds of done runs, by everything but the seeds; preparation and test at the load of the training."""
    by_cell: dict[str, list[float]] = {}
    for record in records:
        if record.done:
            by_cell.setdefault(_cell(record.spec), []).append(seconds_taken(record))
    return {cell: statistics.median(seconds) for cell, seconds in by_cell.items()}


def _cell(fields: dict[str, object]) -> str:
    stages = fields.get("stages")
    listed = list(stages) if stages else None  # type: ignore[call-overload]
    return repr(sorted({"evaluate": "test", **fields, "vary": "all", "seed": 0, "stages": listed}.items()))
