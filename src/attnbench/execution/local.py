"""Runs in processes of this machine, some at a time; several GPUs are shared out among them."""

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from attnbench.errors import AttnbenchError, BadSpec
from attnbench.execution.children import Child, Ended
from attnbench.execution.executors import Execution, Task
from attnbench.store.runs import Store


@contextlib.contextmanager
def workers(how: Execution, store: Store, devices: Sequence[str]) -> Iterator["LocalWorkers"]:
    """Processes as long as the block lasts.

    Args:
        devices: what CUDA_VISIBLE_DEVICES calls each GPU that is shared out; none where runs do without, or share none.

    Raises:
        BadSpec: runs are to share a GPU, and none is shared out.
    """
    if how.per_device and not devices:
        what = (
            "no GPU is shared out here (a CPU, portable numerics, or one GPU by number); jobs says how many at a time"
        )
        raise BadSpec({"per_device": what})
    slots = [device for _ in range(how.per_device or 1) for device in devices]
    pool = ThreadPoolExecutor(how.jobs or len(slots) or 1)
    crew = LocalWorkers(pool, store, slots)
    try:
        with pool:
            yield crew
    finally:
        crew.kill()  # those for whom a second Ctrl-C did not wait


class LocalWorkers:
    """A thread for each process that may train at the moment; a run takes a GPU of its own, or a share of one."""

    def __init__(self, pool: ThreadPoolExecutor, store: Store, slots: Sequence[str]) -> None:
        self._pool, self._store = pool, store
        self._futures: dict[Future[Ended], str] = {}
        self._children: dict[str, Child] = {}
        self._stopped = threading.Event()
        self._shared, self._free = bool(slots), queue.SimpleQueue[str]()
        for slot in slots:
            self._free.put(slot)

    def start(self, tasks: Sequence[Task]) -> None:
        """Queue these."""
        for task in tasks:
            self._futures[self._pool.submit(self._train, task)] = task.run

    def ended(self, seconds: float) -> list[tuple[str, Ended]]:
        """The runs whose processes have ended."""
        finished, _ = wait(self._futures, seconds, FIRST_COMPLETED)
        return [(self._futures.pop(future), future.result()) for future in finished]

    def running(self) -> Mapping[str, int]:
        """The runs that have a process now, with their epochs."""
        return {run: self._store.epochs(run) for run in list(self._children)}

    def interrupt(self) -> None:
        """Let every process write a checkpoint and end; the end of the block waits for that."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for child in list(self._children.values()):
            child.interrupt()

    def kill(self) -> None:
        """End every process that is left at once, without a checkpoint."""
        for child in list(self._children.values()):
            child.kill()

    def _train(self, task: Task) -> Ended:
        with self._device() as environment:
            if self._stopped.is_set():  # Ctrl-C came while it waited for a GPU
                return Ended(130, {}, "")
            try:
                child = Child("train", task.asked, task.runtime, environment)
            except AttnbenchError as problem:
                return Ended(1, {"message": str(problem)}, "")
            self._children[task.run] = child
            if self._stopped.is_set():  # Ctrl-C came while it was being started
                child.interrupt()
            try:
                return child.ended()
            finally:
                self._children.pop(task.run, None)

    @contextlib.contextmanager
    def _device(self) -> Iterator[dict[str, str]]:
        """The environment of a process that has a GPU, or a share of one, for itself."""
        if not self._shared:
            yield {}
            return
        slot = self._free.get()
        try:
            yield {"CUDA_VISIBLE_DEVICES": slot}
        finally:
            self._free.put(slot)
