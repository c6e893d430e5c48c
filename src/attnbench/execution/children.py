"""Processes of ours: what they are asked goes in over a pipe; what they answer and what they say are left in files.

A file never fills up as a pipe does, so that a child may say as much as it likes, and no print of somebody's own code
gets into an answer.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from attnbench.errors import AttnbenchError, Failed, ForeignError
from attnbench.spec.portable import pins
from attnbench.spec.run import Runtime


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int
    answer: Mapping[str, Any]
    """`value`, or the `message` and the `trace` of a mistake; empty after a crash."""
    said: str
    """Everything that it wrote to stderr."""
    host: str = ""
    """The machine, where it is not this one."""

    @property
    def reason(self) -> str:
        """Why it did not do its job, in one line."""
        where = f"on {self.host}: " if self.host else ""
        if self.code < 0:
            name = signal.Signals(-self.code).name
            return f"{where}killed by signal {-self.code} ({name}); run the study again to go on from its checkpoint"
        lines = str(self.answer.get("message") or self.said.strip()).splitlines()
        return where + (lines[-1] if lines else f"exit code {self.code}")

    @property
    def trace(self) -> str:
        """The traceback of the user's own code, where that is why."""
        return str(self.answer.get("trace", ""))


class Child:
    """A process that does one job; in a session of its own, so that Ctrl-C reaches the parent alone."""

    def __init__(
        self,
        job: str,
        asked: Mapping[str, object],
        runtime: Runtime,
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
    ) -> None:
        """Start it.

        Args:
            asked: what it is told; its modules are sought where this process finds them, if it names no `path`.
            environment: variables that it has besides ours.
            folder: where it works; None for where we do.

        Raises:
            AttnbenchError: there is no room in the temporary folder, or there may be no more processes.
        """
        try:
            self._begin(job, runtime, environment or {}, folder)
        except OSError as problem:
            raise AttnbenchError(f"no process to {job} could be started: {problem}") from None
        assert self.process.stdin is not None
        self._asked = self.process.stdin
        whole = {"path": search_path(), **asked, "runtime": dataclasses.asdict(runtime)}
        with contextlib.suppress(BrokenPipeError):
            self._asked.write(json.dumps(whole) + "\n")
            self._asked.flush()  # and it stays open: its end tells the child that we are gone

    def _begin(self, job: str, runtime: Runtime, environment: Mapping[str, str], folder: str | None) -> None:
        with contextlib.ExitStack() as files:
            self._place = Path(files.enter_context(tempfile.TemporaryDirectory(prefix="attnbench-child-")))
            with (self._place / "said").open("wb") as said:
                self.process = _start(job, runtime, self._place / "answer", said, environment, folder)
            self._files = files.pop_all()  # closed at its end

    def interrupt(self) -> None:
        """Let it write a checkpoint and end."""
        with contextlib.suppress(ProcessLookupError, OSError):
            self._asked.close()  # a signal is lost on one that still starts up

    def kill(self) -> None:
        """End it at once; one that has ended stays as it is."""
        self.process.kill()

    def over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def ended(self) -> Ended:
        """Wait for its end."""
        try:
            code = self.process.wait()
            answer, said = (_whole(self._place / name) for name in ("answer", "said"))
        except KeyboardInterrupt:
            self.kill()
            raise
        finally:
            self._files.close()
            with contextlib.suppress(OSError):
                self._asked.close()
        try:
            return Ended(code, json.loads(answer), said)
        except ValueError:  # it died on its way
            return Ended(code, {}, said)


class Told:
    """What children that did their jobs have said: each warning is shown once, whoever says it."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def show(self, said: str) -> None:
        """Pass on what has not been said yet; a line that is indented belongs to the one above it."""
        blocks: list[str] = []
        for line in said.splitlines():
            last = line.rsplit("\r", 1)[-1]  # of a progress bar its last state
            if last[:1].isspace() and blocks:
                blocks[-1] += f"\n{last}"
            elif last:
                blocks.append(last)
        for block in blocks:
            if block not in self._seen:
                self._seen.add(block)
                print(block, file=sys.stderr)


def ask(job: str, asked: dict[str, object], runtime: Runtime, told: Told) -> Any:
    """Have a job done at once; returns its answer.

    Raises:
        ForeignError: what it complained about, with the traceback of the user's own code where that is why.
    """
    ended = Child(job, asked, runtime).ended()
    if ended.code == 0:
        told.show(ended.said)
        return ended.answer["value"]
    if "message" in ended.answer:
        raise ForeignError(ended.answer["message"], ended.trace)
    if ended.code < 0:  # as where the machine has no more memory
        raise Failed(f"{job}: {ended.reason}")
    raise RuntimeError(f"{job} ended with exit code {ended.code}:\n{ended.said}")


def _whole(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def search_path() -> list[str]:
    """Where this process finds modules."""
    return [str(Path(place).resolve()) for place in sys.path]


def _start(
    job: str, runtime: Runtime, answer: Path, said: IO[bytes], environment: Mapping[str, str], folder: str | None
) -> subprocess.Popen[str]:
    threads = str(runtime.thread_count)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "attnbench.execution.worker", job, str(answer)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL if job == "train" else None,
        stderr=said,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            **pins(runtime.numerics),
            **environment,
        },
        cwd=folder,
        start_new_session=True,
    )
