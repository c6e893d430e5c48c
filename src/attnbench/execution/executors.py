"""Where the runs of a study are trained: one small interface, behind which this machine, Ray or Slurm stands."""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from attnbench.errors import AttnbenchError, BadSpec
from attnbench.execution.children import Ended
from attnbench.spec.run import Runtime
from attnbench.store.runs import Store

SHARED_SECONDS = 60.0
"""How long a network file system may take to show a file."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where runs are trained, how many at a time, and how often one is tried again: never part of what a run is."""

    executor: Literal["local", "ray", "slurm"] = "local"
    """local: a process a run on this machine; ray: tasks of a Ray cluster; slurm: an array of jobs."""
    jobs: int | None = None
    """Runs at a time: of local 1, or one a GPU; of slurm as many as it starts; ray goes by what a run takes."""
    retries: int = 0
    """How often a run that died is tried again, from its checkpoint."""
    per_device: int | None = None
    """local: runs at a time that share a GPU (default: 1)."""
    address: str | None = None
    """ray: the cluster, HOST:PORT or ray://HOST:PORT (default: RAY_ADDRESS, one on this machine, or a new one here)."""
    cpus_per_run: float | None = None
    """ray, slurm: CPU cores that a run takes (default: as many as its threads)."""
    gpus_per_run: float | None = None
    """ray, slurm: GPUs that a run takes, for ray also 0.5 or the like (default: none; ray: 1 where there are any)."""
    partition: str | None = None
    """slurm: the partition (default: the cluster's)."""
    minutes: int | None = None
    """slurm: time limit of a job; a run that needs longer is queued again and goes on (default: 60)."""

    def __post_init__(self) -> None:
        least = {"jobs": 1, "retries": 0, "per_device": 1, "minutes": 3, "gpus_per_run": 0}
        given = {name: value for name, value in vars(self).items() if value is not None}
        wrong = {
            name: f"{given[name]} must be at least {low}" for name, low in least.items() if given.get(name, low) < low
        }
        if self.cpus_per_run is not None and self.cpus_per_run <= 0:
            wrong["cpus_per_run"] = f"{self.cpus_per_run:g} must be above 0"
        for name, users in _USERS.items():
            if name in given and self.executor not in users:
                wrong[name] = f"executor {self.executor!r} has no use for it; {' and '.join(map(repr, users))} have"
        for name in ("cpus_per_run", "gpus_per_run"):
            if self.executor == "slurm" and given.get(name, 1) % 1:
                wrong[name] = f"{given[name]:g}: slurm gives whole ones only"
        if wrong:
            raise BadSpec(wrong)


_USERS = {
    "jobs": ("local", "slurm"),
    "per_device": ("local",),
    "address": ("ray",),
    "cpus_per_run": ("ray", "slurm"),
    "gpus_per_run": ("ray", "slurm"),
    "partition": ("slurm",),
    "minutes": ("slurm",),
}
"""Which executors have a use for an option."""


@dataclass(frozen=True)
class Task:
    """A run to be trained somewhere: all that its process needs to be told."""

    run: str
    asked: Mapping[str, object]
    """What goes to the child process, ready for JSON."""
    runtime: Runtime
    code: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    """The user's own files that it needs, by their places below a folder where modules are sought."""


class Workers(Protocol):
    """What trains runs as long as a sweep is executed. Retries, failures and progress are the sweep's."""

    def start(self, tasks: Sequence[Task]) -> None:
        """Have these trained, as soon as there is room for them; returns at once."""

    def ended(self, seconds: float) -> Iterable[tuple[str, Ended]]:
        """The runs whose processes have ended since the last call, with what they left in the store; waits a while."""

    def running(self) -> Mapping[str, int]:
        """The runs that are training now, with the epochs that they have done."""

    def interrupt(self) -> None:
        """Let every process write a checkpoint and end, and start no more."""


def needs(what: str, extra: str, problem: ImportError) -> AttnbenchError:
    """For an executor whose library is not installed."""
    return AttnbenchError(f"--executor {extra} needs {what}: pip install 'attnbench[{extra}]' ({problem})")


def cores(how: Execution, runtime: Runtime) -> float:
    """CPU cores that a run takes on a cluster: as asked for, or as many as its threads.

    Raises:
        BadSpec: neither says a number.
    """
    found = how.cpus_per_run or runtime.threads
    if not found:
        raise BadSpec({"threads": f"0 is no number of cores that {how.executor} could give; give --cpus-per-run, too"})
    return found


def absolute(runtime: Runtime) -> Runtime:
    """The same folders for processes that work elsewhere."""
    store, data = (str(Path(folder).resolve()) for folder in (runtime.store, runtime.data_dir))
    return dataclasses.replace(runtime, store=store, data_dir=data)


def arrived(store: Store, run: str) -> None:
    """Wait until a run's record is seen here: a shared folder may show late what another machine wrote."""
    late = time.monotonic() + SHARED_SECONDS
    while store.record(run) is None and time.monotonic() < late:
        time.sleep(0.5)
