"""How far a run is inside an epoch or a pass over a split: a bar on a terminal, else a line a minute; all on stderr."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from attnbench.console import duration, say
from attnbench.data.batches import Batches

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""
PASSES = {"test": "testing", "val": "validating"}
Told = Callable[[str, int, int], None]
"""What is being done, how many images of it are done, and how many there are."""


class Watched(Batches):
    """Batches that tell how many of their images have been taken."""

    def __init__(self, *given: Any, told: Told) -> None:
        super().__init__(*given)
        self._told = told

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The same batches."""
        what, total = f"epoch {epoch + 1}/{self.spec.epochs}", self.steps()
        for step, images, labels in super().epoch(epoch, first):
            yield step, images, labels
            taken = min((step + 1) * self.spec.batch_size, len(self.split))
            self._told(what, len(self.split) if step + 1 == total else taken, len(self.split))

    def plain(self, size: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The same batches."""
        done = first
        for images, labels in super().plain(size, first):
            yield images, labels
            done += len(labels)
            self._told(PASSES.get(self.split.name, self.split.name), done, len(self.split))


@contextlib.contextmanager
def telling(wanted: bool, clock: Callable[[], float] = time.monotonic) -> Iterator[Told]:
    """What to tell of a run's progress, as long as the block lasts; nothing is said if it is not wanted."""
    console = Console(stderr=True)
    if not wanted:
        yield lambda _what, _done, _total: None
    elif console.is_terminal:
        bar = _Bar(console)
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield _Lines(clock)


class _Lines:
    """A line a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.last = clock, clock()
        self.what, self.began, self.before = "", 0.0, 0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = self.clock()
        if what != self.what:
            self.what, self.began, self.before = what, now, done
        if now - self.last >= EVERY and done < total:
            gone, made = now - self.began, done - self.before
            left = f"; {duration(gone)} gone, about {duration(gone * (total - done) / made)} left" if made else ""
            say(f"{what}: {done:,} of {total:,} images{left}")
            self.last = now


class _Bar:
    """A bar for what is being done, gone when it is done: so it never stands among other lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def __call__(self, what: str, done: int, total: int) -> None:
        if done >= total:
            self.close()
            return
        if self.bar is None:
            named = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
            times = TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left")
            self.bar = Progress(
                *named, *times, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self.task = self.bar.add_task(what, total=total)
            self.bar.start()
        self.bar.update(self.task, description=what, completed=done, total=total)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
