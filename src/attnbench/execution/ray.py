"""Runs as tasks of a Ray cluster. Ray says where and when; a task starts the same process as a study on one machine.

That process is a child of Ray's worker, so that whatever kills it, memory included, leaves Ray as it was; and where
Ray's worker is killed, or its node goes, the child notices, writes a checkpoint and ends.
"""

import contextlib
import dataclasses
import os
import platform
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.console import first_line, say
from attnbench.errors import AttnbenchError
from attnbench.execution.children import Child, Ended, search_path
from attnbench.execution.executors import Execution, Task, absolute, arrived, cores, needs
from attnbench.files import user_cache
from attnbench.spec.run import Runtime
from attnbench.store.carried import packed, received
from attnbench.store.runs import Store

LOST = 3
"""How often Ray gives a run to another worker when the worker or its node died: nothing that the run did."""
TELL_SECONDS, SILENT_SECONDS = 1.0, 15.0
"""How often a task tells how far its run is, and after how long without a word it counts as gone."""
CLOSE_SECONDS = 120.0
"""How long Ctrl-C waits for checkpoints."""
AGAIN_SECONDS = 5.0
"""After how long it is said again to workers that go on."""

_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""For a cluster that is started here: nothing is told to Ray's makers, and runs are no less urgent than elsewhere."""


@dataclass(frozen=True)
class Home:
    """What a worker must know of the machine that the study was started on."""

    token: str
    """What stands in a file of the store: a worker that reads it there sees the same folder."""
    folder: str
    """Where the study was started."""
    path: Sequence[str]
    """Where modules were sought there."""


class Board:
    """What tasks tell of their runs, for whoever started them: an actor."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, int]] = {}

    def tell(self, run: str, epochs: int) -> None:
        """Note that a run is training, and how many epochs it has done."""
        self._told[run] = time.monotonic(), epochs

    def heard(self) -> dict[str, int]:
        """The runs that told something lately, with their epochs."""
        now = time.monotonic()
        return {run: epochs for run, (when, epochs) in self._told.items() if now - when < SILENT_SECONDS}


@contextlib.contextmanager
def workers(how: Execution, runtime: Runtime) -> Iterator["RayWorkers"]:
    """Tasks of a cluster as long as the block lasts.

    Raises:
        AttnbenchError: Ray is not installed, or its cluster does not answer.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as problem:
        raise needs("Ray", "ray", problem) from None
    if ray.is_initialized():
        yield RayWorkers(how, runtime)
        return
    options = {} if how.address else {"include_dashboard": False}
    try:
        ray.init(how.address, log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise AttnbenchError(
            f"no Ray cluster answers at {how.address or 'RAY_ADDRESS'}: {first_line(problem)}"
        ) from None
    try:
        yield RayWorkers(how, runtime)
    finally:
        ray.shutdown()


class RayWorkers:
    """The tasks of a sweep; the cluster must have been connected to."""

    def __init__(self, how: Execution, runtime: Runtime) -> None:
        import ray

        self._ray, self._store = ray, Store(runtime.store)
        self._home = Home(_token(self._store), str(Path.cwd()), search_path())
        takes = {"num_cpus": cores(how, runtime), "num_gpus": _gpus(how, runtime, ray)}
        if not any(_fits(takes, node["Resources"]) for node in ray.nodes() if node["Alive"]):
            say(f"no node of this cluster has the {_words(takes)} that a run takes; runs wait until one comes")
        self._train = ray.remote(max_retries=LOST, **takes)(trained)
        self._board = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
        self._tasks: dict[Any, str] = {}

    def start(self, tasks: Sequence[Task]) -> None:
        """Hand these to Ray."""
        for task in tasks:
            there = dataclasses.replace(task, runtime=absolute(task.runtime))
            self._tasks[self._train.remote(there, self._home, self._board)] = task.run

    def ended(self, seconds: float) -> Iterator[tuple[str, Ended]]:
        """The runs whose tasks have ended; what they left is in the store by now."""
        for ref in self._ray.wait(list(self._tasks), num_returns=1, timeout=seconds)[0]:
            run = self._tasks.pop(ref)
            try:
                ended, files = self._ray.get(ref)
            except self._ray.exceptions.RayError as problem:
                yield run, Ended(1, {"message": f"Ray: {first_line(problem)}"}, str(problem))
                continue
            if files is not None:
                received(self._store, run, files)
            elif ended.code == 0:
                arrived(self._store, run)
            yield run, ended

    def running(self) -> Mapping[str, int]:
        """The runs that were heard of lately."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            heard = self._ray.get(self._board.heard.remote(), timeout=1)
            open_ = set(self._tasks.values())
            return {run: epochs for run, epochs in heard.items() if run in open_}
        return {}

    def interrupt(self) -> None:
        """Let every process write a checkpoint and end, and wait for that.

        A worker may not hear it in the middle of a call of Ray's own, so it is said again to those that go on.
        """
        left, end = list(self._tasks), time.monotonic() + CLOSE_SECONDS
        while left and time.monotonic() < end:
            for ref in left:
                self._ray.cancel(ref, force=False)
            _, left = self._ray.wait(left, num_returns=len(left), timeout=AGAIN_SECONDS)


def trained(task: Task, home: Home, board: Any) -> tuple[Ended, dict[str, bytes] | None]:
    """Train a run in a child of Ray's worker; how it ended, and its files where this machine does not see the store."""
    shared = _token_in(Path(task.runtime.store)) == home.token
    store = Store(task.runtime.store if shared else user_cache() / "ray" / home.token)
    runtime = dataclasses.replace(task.runtime, store=str(store.path), data_dir=_data_dir(task.runtime.data_dir))
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as after:
        folder = home.folder if Path(home.folder).is_dir() else place
        for name, content in task.code.items():
            file = Path(place) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        child = Child("train", {**task.asked, "path": [place, *home.path]}, runtime, folder=folder)
        try:
            while not child.over():
                board.tell.remote(task.run, store.epochs(task.run))
                time.sleep(TELL_SECONDS)
        except KeyboardInterrupt:  # cancelled; said again, it must not disturb the end
            after.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_IGN))
            child.interrupt()
        ended = dataclasses.replace(child.ended(), host=platform.node())
        return ended, None if shared else packed(store, task.run)


def _token(store: Store) -> str:
    """What stands in the store's own file, which is written where there is none."""
    file = store.path / ".locks" / "token"
    if not (token := _token_in(store.path)):
        file.parent.mkdir(parents=True, exist_ok=True)
        token = os.urandom(16).hex()
        file.write_text(token)
    return token


def _token_in(store: Path) -> str:
    try:
        return (store / ".locks" / "token").read_text()
    except OSError:
        return ""


def _data_dir(asked: str) -> str:
    """The folder of data sets on a worker: its own setting, the same folder, or one into which data are fetched."""
    if own := os.environ.get("ATTNBENCH_DATA_DIR"):
        return own
    return asked if Path(asked).is_dir() else str(user_cache() / "data")


def _gpus(how: Execution, runtime: Runtime, ray: Any) -> float:
    """How many GPUs a run takes: as asked for, or one where there are any and it may use one."""
    if how.gpus_per_run is not None:
        return how.gpus_per_run
    without = runtime.device == "cpu" or runtime.numerics == "portable"
    return 0 if without else float(ray.cluster_resources().get("GPU", 0) >= 1)


def _fits(takes: Mapping[str, float], resources: Mapping[str, float]) -> bool:
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return all(resources.get(names[what], 0) >= amount for what, amount in takes.items())


def _words(takes: Mapping[str, float]) -> str:
    return f"{takes['num_cpus']:g} CPUs and {takes['num_gpus']:g} GPUs"
