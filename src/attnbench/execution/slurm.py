"""Runs as an array of Slurm jobs, by submitit. Slurm says where and when; a job starts the same process as ever.

Before a time limit, and when it is preempted, a job lets its process write a checkpoint and queues itself again.
"""

import contextlib
import dataclasses
import logging
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbench.errors import AttnbenchError
from attnbench.execution.children import Child, Ended, search_path
from attnbench.execution.executors import Execution, Task, absolute, arrived, cores, needs
from attnbench.spec.run import Runtime
from attnbench.store.runs import Store

CLUSTER = "slurm"
"""What submitit calls it."""
MINUTES, SLICES = 60, 1000
"""The time limit of a job, and how many of them a run may use up: each leaves a checkpoint."""
LARGEST = 1000
"""Jobs of one array: what Slurm allows where nobody set MaxArraySize."""
LOOK_SECONDS, QUEUE_SECONDS = 2.0, 60.0
"""How often results are looked for, and how often Slurm is asked which jobs it still has."""
GRACE_SECONDS = 600.0
"""How long a job that was told to stop waits for Slurm to end it."""
TOLD = {signal.SIGTERM, getattr(signal, "SIGUSR2", signal.SIGTERM)}  # Windows has no second one, and no Slurm
"""What Slurm tells every process of a job; ours is told by the job itself, once."""


@contextlib.contextmanager
def workers(how: Execution, runtime: Runtime) -> Iterator["SlurmWorkers"]:
    """Jobs of a cluster as long as the block lasts.

    Raises:
        AttnbenchError: submitit is not installed, or there is no Slurm here.
    """
    try:
        import submitit
    except ImportError as problem:
        raise needs("submitit", "slurm", problem) from None
    logging.getLogger("submitit").setLevel(logging.ERROR)
    store = Store(Path(runtime.store).resolve())
    limit = {f"{CLUSTER}_max_num_timeout": SLICES} if CLUSTER == "slurm" else {}
    try:
        executor = submitit.AutoExecutor(store.path / ".slurm" / "%j", cluster=CLUSTER, **limit)
        executor.update_parameters(name="attnbench", **_parameters(how, runtime))
    except RuntimeError as problem:
        raise AttnbenchError(
            f"--executor slurm works where srun and sbatch do, as on a login node: {problem}"
        ) from None
    yield SlurmWorkers(executor, store)


def _parameters(how: Execution, runtime: Runtime) -> dict[str, Any]:
    """What a job asks for, in submitit's words."""
    return {
        "timeout_min": how.minutes or MINUTES,
        "cpus_per_task": int(cores(how, runtime)),
        "gpus_per_node": int(how.gpus_per_run) if how.gpus_per_run else None,
        "slurm_partition": how.partition,
        "slurm_array_parallelism": how.jobs or LARGEST,
        "slurm_additional_parameters": {"requeue": True},
    }


class SlurmWorkers:
    """The jobs of a sweep; they and we see the same store."""

    def __init__(self, executor: Any, store: Store) -> None:
        self._executor, self._store = executor, store
        self._jobs: dict[str, Any] = {}
        self._began, self._asked = time.time(), time.monotonic()

    def start(self, tasks: Sequence[Task]) -> None:
        """Submit these as arrays.

        Raises:
            AttnbenchError: Slurm refuses them.
        """
        for first in range(0, len(tasks), LARGEST):
            part = tasks[first : first + LARGEST]
            try:
                with self._executor.batch():
                    jobs = [self._executor.submit(Training(_shared(task))) for task in part]
                self._jobs |= {task.run: job for task, job in zip(part, jobs, strict=True)}
            except Exception as problem:
                if type(problem).__module__.split(".")[0] != "submitit":
                    raise
                raise AttnbenchError(f"Slurm refuses the runs: {_last_line(str(problem))}") from None

    def ended(self, seconds: float) -> Iterator[tuple[str, Ended]]:
        """The runs whose jobs have ended, and those whose jobs Slurm does not have any more."""
        time.sleep(max(seconds, LOOK_SECONDS))
        gone = self._gone()
        for run, job in list(self._jobs.items()):
            if _answered(job) or run in gone:
                del self._jobs[run]
                ended = _ended(job)
                if ended.code == 0:
                    arrived(self._store, run)
                yield run, ended

    def running(self) -> Mapping[str, int]:
        """The runs whose journals say that they were begun or taken up since."""
        return {run: self._store.epochs(run) for run in self._jobs if self._begun(run)}

    def interrupt(self) -> None:
        """Cancel the jobs, which lets every process write a checkpoint; Slurm gives them its KillWait for that."""
        if CLUSTER == "slurm" and self._jobs:  # all in one command, which no second Ctrl-C ends, as `run` would
            names = [job.job_id for job in self._jobs.values()]
            subprocess.Popen(["scancel", *names], stdout=subprocess.DEVNULL, start_new_session=True).wait()
            return
        for job in self._jobs.values():
            job.cancel(check=False)

    def _begun(self, run: str) -> bool:
        begins = ("start", "resume")
        return any(line["event"] in begins and line["time"] > self._began for line in self._store.journal(run))

    def _gone(self) -> set[str]:
        """Runs whose jobs are not in Slurm's queue any more, asked for once a while; that takes no accounting."""
        if CLUSTER != "slurm" or not self._jobs or time.monotonic() < self._asked + QUEUE_SECONDS:
            return set()
        self._asked = time.monotonic()
        arrays = ",".join({job.job_id.split("_")[0] for job in self._jobs.values()})
        command = ["squeue", "--noheader", "--array", "--format=%F_%K %A", f"--jobs={arrays}"]
        asked = subprocess.run(command, capture_output=True, text=True)
        if asked.returncode and "Invalid job id" not in asked.stderr:
            return set()  # Slurm does not answer
        queued = set(asked.stdout.split())
        return {run for run, job in self._jobs.items() if job.job_id not in queued}


class Training:
    """What a job does: train a run in a child, and let it write a checkpoint where Slurm wants the machine back."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._child: Child | None = None
        self._told = False

    def __call__(self) -> Ended:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
        try:
            self._child = child = Child("train", self.task.asked, self.task.runtime)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGTERM, self._stop)
        while not child.over():
            time.sleep(0.2)
        if self._told:  # Slurm ends this job, and queues it again where it was preempted
            time.sleep(GRACE_SECONDS)
        return dataclasses.replace(child.ended(), host=platform.node())

    def checkpoint(self) -> Any:
        """What submitit queues again: the same run, which goes on from the checkpoint that its process leaves now."""
        from submitit.helpers import DelayedSubmission

        self._stop()
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):  # it is gone
                os.waitid(os.P_PID, self._child.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Training(self.task))

    def _stop(self, *_: object) -> None:
        """Tell the child once; a signal that came in between would find it told, and wait for it for ever."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
        try:
            if not self._told and self._child is not None:
                self._told = True
                self._child.interrupt()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shared(task: Task) -> Task:
    """A task for a machine that sees the same folders."""
    asked = {**task.asked, "path": search_path()}
    return dataclasses.replace(task, asked=asked, runtime=absolute(task.runtime), code={})


def _answered(job: Any) -> bool:
    """Whether a job has left its result; where the folder is on a network, what is known of it is asked for anew."""
    with contextlib.suppress(OSError):
        job.paths.folder.chmod(job.paths.folder.stat().st_mode)
    return bool(job.paths.result_pickle.exists())


def _ended(job: Any) -> Ended:
    """How a job ended; where it left no result, that Slurm ended it."""
    if not _answered(job):
        return Ended(1, {"message": f"Slurm ended job {job.job_id}; its log: {job.paths.stderr}"}, "")
    if (problem := job.exception()) is not None:
        return Ended(1, {"message": f"job {job.job_id}: {_last_line(str(problem))}; its log: {job.paths.stderr}"}, "")
    ended: Ended = job.result()
    return ended


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")
