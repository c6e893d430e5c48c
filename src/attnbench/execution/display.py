"""How far a sweep is: done, running and failed runs, the time that is left, and a line for each that is training."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from attnbench.spec.run import RunSpec
from attnbench.store.runs import RunRecord


class Display:
    """A bar over all runs and a line for each that is training; plain lines where there is no terminal."""

    def __init__(self, bars: Progress, specs: Sequence[RunSpec], describe: Callable[[RunSpec], str]) -> None:
        self.bars, self.describe = bars, describe
        self.specs = {spec.id: spec for spec in specs}
        self.whole = bars.add_task("runs", total=len(specs))
        self.tasks: dict[str, TaskID] = {}
        self.began, self.before = time.monotonic(), dict[str, int]()
        self.running: Mapping[str, int] = {}
        self.ended: dict[str, bool] = {}

    def show(self, running: Mapping[str, int]) -> None:
        """Bring the lines up to date: runs that are training, with the epochs that they have done."""
        self.running = running
        for run, epochs in running.items():
            self.before.setdefault(run, epochs)
            if run not in self.tasks:
                spec = self.specs[run]
                self.tasks[run] = self.bars.add_task(self.describe(spec), total=spec.epochs)
            self.bars.update(self.tasks[run], completed=epochs)
        for run in self.tasks.keys() - running.keys():
            self.bars.remove_task(self.tasks.pop(run))
        self.bars.update(self.whole, description=f"runs: {self.counts()}")

    def finished(self, run: str, record: RunRecord | None, reason: str | None) -> None:
        """Say how a run went, and how far the whole is."""
        self.ended[run] = reason is None
        self.running = {name: epochs for name, epochs in self.running.items() if name != run}
        self.bars.advance(self.whole)
        outcome = f"{record.score:.2f} %" if record and record.done else f"FAILED: {reason}"
        line = f"{run}  {self.describe(self.specs[run])}  {outcome}  ({self.counts()})"
        self.bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def counts(self) -> str:
        """Done, running and failed runs, and the time that is left."""
        done = sum(self.ended.values())
        parts = [f"{done} of {len(self.specs)} done", f"{len(self.running)} running"]
        parts += [f"{len(self.ended) - done} failed"] if done < len(self.ended) else []
        left = self.seconds_left()
        return ", ".join([*parts, f"about {_words(left)} left"] if left else parts)

    def seconds_left(self) -> float | None:
        """By the epochs that were done since the beginning; None while nothing is known, or nothing left."""
        whole = sum(spec.epochs for spec in self.specs.values())
        here = {**{run: self.specs[run].epochs for run in self.ended}, **self.running}
        made = sum(epochs - self.before.get(run, 0) for run, epochs in here.items())
        left = whole - sum(here.values())
        return (time.monotonic() - self.began) * left / made if made and left else None


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def display(specs: Sequence[RunSpec], describe: Callable[[RunSpec], str]) -> Iterator[Display]:
    """A display as long as the block lasts.

    Args:
        describe: what a run is called in a few words.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Display(bars, specs, describe)
