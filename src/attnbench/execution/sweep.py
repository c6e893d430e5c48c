"""Many runs: skip what is done, give each of the rest a process, keep going after a failure."""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from attnbench.errors import AttnbenchError, BadSpec, Diverged
from attnbench.spec.portable import pins
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.mlflow import View, mirrored
from attnbench.store.runs import RunRecord, Store
from attnbench.training.done import pending


@dataclass(frozen=True)
class Failure:
    """A run that was not done, and why."""

    spec: RunSpec
    reason: str


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
    _ask("prepare", {"specs": [dataclasses.asdict(spec) for spec in left]}, sweep.runtime)
    with mirrored(sweep.store, [spec.id for spec in left], enabled=sweep.runtime.tracker == "mlflow"):
        return _fan_out(sweep, left, jobs, retries)


def estimate(sweep: Sweep) -> float | None:
    """Hours of one process for the pending runs (CPU time on a CPU): by done runs like them, else by a few steps."""
    left = sweep.pending()
    known = _known_seconds(sweep.store.records())
    unknown = {_cell(dataclasses.asdict(spec)): spec for spec in left if _cell(dataclasses.asdict(spec)) not in known}
    if unknown:
        specs = [dataclasses.asdict(spec) for spec in unknown.values()]
        measured = json.loads(_ask("estimate", {"specs": specs}, sweep.runtime))
        known |= dict(zip(unknown, measured, strict=True))
    seconds = [known[_cell(dataclasses.asdict(spec))] for spec in left]
    return None if None in seconds else sum(value for value in seconds if value is not None) / 3600


def _fan_out(sweep: Sweep, left: list[RunSpec], jobs: int, retries: int) -> list[Failure]:
    workers = WorkerPool(sweep, retries)
    failures = []
    with ThreadPoolExecutor(jobs) as pool, _display(sweep, len(left)) as display:
        futures = {pool.submit(workers.train, spec): spec for spec in left}
        waiting: set[Future[str | None]] = set(futures)
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                display.show(workers)
                for future in finished:
                    reason = future.result()
                    display.finished(futures[future], reason)
                    if reason:
                        failures.append(Failure(futures[future], reason))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.interrupt()
            raise
    return failures


class WorkerPool:
    """The processes that are training at the moment."""

    def __init__(self, sweep: Sweep, retries: int) -> None:
        self.sweep, self.retries = sweep, retries
        self.running: dict[str, RunSpec] = {}
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopped = threading.Event()

    def train(self, spec: RunSpec) -> str | None:
        """Train one run to its end, with retries; returns the reason if it failed."""
        reason: str | None = None
        for _ in range(1 + self.retries):
            if self._stopped.is_set():
                return "interrupted"
            code, reason = self._attempt(spec)
            if reason is None or code == Diverged.child_exit_code:
                break
        return reason

    def interrupt(self) -> None:
        """Let every process write a checkpoint and end."""
        self._stopped.set()
        for process in list(self._processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)

    def _attempt(self, spec: RunSpec) -> tuple[int, str | None]:
        """Train in a process; its exit code, and the reason if the run is not done."""
        asked = {
            "spec": dataclasses.asdict(spec),
            "recipe": self.sweep.recipe,
            "view": dataclasses.asdict(View.of(spec, self.sweep.study)),
        }
        process = _start("train", asked, dataclasses.replace(self.sweep.runtime, tracker="none"))
        self._processes.add(process)
        if self._stopped.is_set():  # Ctrl-C came while it was being started
            process.send_signal(signal.SIGINT)
        self.running[spec.id] = spec
        assert process.stderr is not None
        try:
            complaint = process.stderr.read().strip()
            code = process.wait()
        finally:
            self._processes.discard(process)
            self.running.pop(spec.id, None)
            _close(process)
        if code == 0 and self.sweep.store.done(spec.id):
            return code, None
        if code < 0:
            name = signal.Signals(-code).name
            return code, f"killed by signal {-code} ({name}); run the study again to go on from its checkpoint"
        return code, complaint.splitlines()[-1] if complaint else f"exit code {code}"


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
        outcome = f"{record.accuracy:.2f} %" if record and record.done else f"FAILED: {reason}"
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


def _start(job: str, asked: Mapping[str, object], runtime: Runtime) -> subprocess.Popen[str]:
    """A process of ours, in a session of its own, so that Ctrl-C reaches the parent alone."""
    threads = str(runtime.threads or os.cpu_count() or 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "attnbench.execution.worker", job],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if job == "estimate" else subprocess.DEVNULL if job == "train" else None,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **pins(runtime.numerics)},
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps({**asked, "runtime": dataclasses.asdict(runtime)}) + "\n")
        process.stdin.flush()  # and it stays open: its end tells the child that we are gone
    return process


def _ask(job: str, asked: dict[str, object], runtime: Runtime) -> str:
    """Have a job done at once; returns what it printed.

    Raises:
        AttnbenchError: what it complained about.
    """
    process = _start(job, asked, runtime)
    assert process.stderr is not None
    try:
        answer = process.stdout.read() if process.stdout else ""
        complaint = process.stderr.read()
        code = process.wait()
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        _close(process)
    if code == 0:
        sys.stderr.write(complaint)  # warnings
        return answer
    if code in (1, 2) and "Traceback" not in complaint:
        raise AttnbenchError(complaint.strip())
    raise RuntimeError(f"{job} ended with exit code {code}:\n{complaint}")


def _close(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _known_seconds(records: list[RunRecord]) -> dict[str, float | None]:
    """Median seconds of done runs, by everything but the seed; preparation and test at the load of the training."""
    by_cell: dict[str, list[float]] = {}
    for record in records:
        if record.done:
            share = sum(record.timings.values()) / record.wall_seconds if record.wall_seconds > 0 else 1.0
            by_cell.setdefault(_cell(record.spec), []).append(record.train_seconds * share)
    return {cell: statistics.median(seconds) for cell, seconds in by_cell.items()}


def _cell(fields: dict[str, object]) -> str:
    stages = fields.get("stages")
    return repr(sorted({**fields, "seed": 0, "stages": list(stages) if stages else None}.items()))  # type: ignore[call-overload]
