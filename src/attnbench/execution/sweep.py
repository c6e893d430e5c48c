"""Many runs: skip what is done, give each of the rest a process, keep going after a failure."""

import contextlib
import dataclasses
import functools
import statistics
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from attnbench.catalogue.registry import Choice
from attnbench.errors import BadReference, BadSpec, Diverged
from attnbench.execution.children import Child, Told, ask
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.mlflow import View, mirrored
from attnbench.store.runs import RunRecord, Store
from attnbench.training.done import pending


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


def execute(sweep: Sweep, jobs: int = 1, retries: int = 0) -> list[Failure]:
    """Do every pending run in a process of its own, `jobs` at a time; returns those that failed.

    Data, networks and the tracking store are prepared once, before anything fans out. Ctrl-C lets each process
    write a checkpoint, and the same call goes on from there.

    Raises:
        AttnbenchError: something that no run could do anything about.
    """
    if jobs < 1 or retries < 0:
        raise BadSpec(
            {"jobs": f"{jobs} must be at least 1"} if jobs < 1 else {"retries": f"{retries} must be at least 0"}
        )
    left = sweep.pending()
    if not left:
        return []
    told = Told()
    ask("prepare", {"specs": _sendable(left)}, sweep.runtime, told)
    with mirrored(sweep.store, [spec.id for spec in left], enabled=sweep.runtime.tracker == "mlflow"):
        return _fan_out(sweep, left, jobs, retries, told)


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


def _fan_out(sweep: Sweep, left: list[RunSpec], jobs: int, retries: int, told: Told) -> list[Failure]:
    workers = WorkerPool(sweep, retries, told)
    failures = []
    with ThreadPoolExecutor(jobs) as pool, _display(sweep, len(left)) as display:
        futures = {pool.submit(workers.train, spec): spec for spec in left}
        waiting: set[Future[Failure | None]] = set(futures)
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                display.show(workers)
                for future in finished:
                    failure = future.result()
                    display.finished(futures[future], failure.reason if failure else None)
                    failures += [failure] if failure else []
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.interrupt()
            raise
    return failures


class WorkerPool:
    """The processes that are training at the moment."""

    def __init__(self, sweep: Sweep, retries: int, told: Told) -> None:
        self.sweep, self.retries, self.told = sweep, retries, told
        self.running: dict[str, RunSpec] = {}
        self._children: set[Child] = set()
        self._stopped = threading.Event()

    def train(self, spec: RunSpec) -> Failure | None:
        """Train one run to its end, with retries; returns the failure if it failed."""
        failure: Failure | None = None
        for _ in range(1 + self.retries):
            if self._stopped.is_set():
                return Failure(spec, "interrupted")
            code, failure = self._attempt(spec)
            if failure is None or code == Diverged.child_exit_code:
                break
        return failure

    def interrupt(self) -> None:
        """Let every process write a checkpoint and end."""
        self._stopped.set()
        for child in list(self._children):
            child.interrupt()

    def _attempt(self, spec: RunSpec) -> tuple[int, Failure | None]:
        """Train in a process; its exit code, and the failure if the run is not done."""
        asked = {
            "spec": _sendable([spec])[0],
            "recipe": self.sweep.recipe,
            "view": dataclasses.asdict(View.of(spec, self.sweep.study)),
        }
        child = Child("train", asked, dataclasses.replace(self.sweep.runtime, tracker="none"))
        self._children.add(child)
        if self._stopped.is_set():  # Ctrl-C came while it was being started
            child.interrupt()
        self.running[spec.id] = spec
        try:
            ended = child.ended()
        finally:
            self._children.discard(child)
            self.running.pop(spec.id, None)
        if ended.code == 0 and self.sweep.store.done(spec.id):
            self.told.show(ended.said)
            return ended.code, None
        return ended.code, Failure(spec, ended.reason, ended.trace)


class _Progress:
    """A bar over all runs and a line for each that is training; plain lines where there is no terminal."""

    def __init__(self, bars: Progress, sweep: Sweep, total: int) -> None:
        self.bars, self.sweep = bars, sweep
        self.whole = bars.add_task("runs", total=total)
        self.tasks: dict[str, TaskID] = {}

    def show(self, workers: WorkerPool) -> None:
        """Bring the lines of the running runs up to date."""
        for run, spec in list(workers.running.items()):
            points = [line for line in self.sweep.store.journal(run) if line["event"] == "epoch"]
            if run not in self.tasks:
                self.tasks[run] = self.bars.add_task(self.sweep.describe(spec), total=spec.epochs)
            self.bars.update(self.tasks[run], completed=len(points))

    def finished(self, spec: RunSpec, reason: str | None) -> None:
        """Drop a run's line, move the whole bar on, and say how it went."""
        if spec.id in self.tasks:
            self.bars.remove_task(self.tasks.pop(spec.id))
        self.bars.advance(self.whole)
        record = self.sweep.store.record(spec.id)
        outcome = f"{record.score:.2f} %" if record and record.done else f"FAILED: {reason}"
        self.bars.console.print(
            f"{spec.id}  {self.sweep.describe(spec)}  {outcome}", highlight=False, markup=False, soft_wrap=True
        )


@contextlib.contextmanager
def _display(sweep: Sweep, total: int) -> Iterator[_Progress]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield _Progress(bars, sweep, total)


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
