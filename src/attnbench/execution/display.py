"""How far a sweep is: done, running and failed runs, the time that is left, and a line for each that is training."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from attnbench.console import duration, joined, shortened
from attnbench.spec.run import RunSpec
from attnbench.store.runs import RunRecord

BAR = 16
"""Letters of a bar."""
BESIDE = len(" 1234/1234  59 min gone, 59 min left") + BAR + 1
"""Letters of a line beside its name."""


class Display:
    """A bar over all runs and a line for each that is training; plain lines where there is no terminal."""

    def __init__(self, bars: Progress, specs: Sequence[RunSpec], describe: Callable[[RunSpec], str]) -> None:
        self.bars, self.describe = bars, describe
        self.specs = {spec.id: spec for spec in specs}
        self.whole = bars.add_task("runs", total=len(specs), times="")
        self.tasks: dict[str, TaskID] = {}
        self.seen: dict[str, float] = {}
        words = zip(*(describe(spec).split(" ") for spec in specs), strict=False)
        same = itertools.takewhile(lambda word: len(specs) > 1 and len(set(word)) == 1, words)
        self.shared = "".join(f"{word[0]} " for word in same)
        """What all names begin with, which the lines of a terminal leave out."""
        self.began, self.before = time.monotonic(), dict[str, int]()
        self.running: Mapping[str, int] = {}
        self.ended: dict[str, bool] = {}

    def show(self, running: Mapping[str, int]) -> None:
        """Bring the lines up to date: runs that are training, with the epochs that they have done."""
        self.running, now = running, time.monotonic()
        for run, epochs in running.items():
            spec, began = self.specs[run], self.seen.setdefault(run, now)
            done = epochs - self.before.setdefault(run, epochs)
            left = (now - began) * (spec.epochs - epochs) / done if done else None
            if run not in self.tasks:
                self.tasks[run] = self.bars.add_task(self._named(self._short(spec)), total=spec.epochs, times="")
            self.bars.update(self.tasks[run], completed=epochs, times=_times(now - began, left))
        for run in self.tasks.keys() - running.keys():
            self.bars.remove_task(self.tasks.pop(run))
        name = self._named(f"runs: {', '.join(self._states()[1:])}")
        self.bars.update(self.whole, description=name, times=_times(now - self.began, self.seconds_left()))

    def _short(self, spec: RunSpec) -> str:
        return self.describe(spec).removeprefix(self.shared)

    def _named(self, name: str) -> str:
        """A name that leaves the bar and the times their place."""
        return shortened(name, max(12, self.bars.console.width - BESIDE))

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
        left = self.seconds_left()
        return ", ".join([*self._states(), f"about {duration(left)} left"] if left else self._states())

    def stopped(self) -> str:
        """Where the whole stands when it is stopped: what is done, and what goes on from an epoch of its own."""
        names = [f"{self.describe(self.specs[run])} in epoch {done + 1}" for run, done in self.running.items()]
        more = [*names[:2], f"{len(names) - 2} more"] if len(names) > 3 else names
        return f"stopped with {self._states()[0]}" + (f", {joined(more)}" if names else "")

    def _states(self) -> list[str]:
        done = sum(self.ended.values())
        parts = [f"{done} of {len(self.specs)} done", f"{len(self.running)} running"]
        return parts + ([f"{len(self.ended) - done} failed"] if done < len(self.ended) else [])

    def seconds_left(self) -> float | None:
        """By the epochs that were done since the beginning; None while nothing is known, or nothing left."""
        whole = sum(spec.epochs for spec in self.specs.values())
        here = {**{run: self.specs[run].epochs for run in self.ended}, **self.running}
        made = sum(epochs - self.before.get(run, 0) for run, epochs in here.items())
        left = whole - sum(here.values())
        return (time.monotonic() - self.began) * left / made if made and left else None


def _times(gone: float, left: float | None) -> str:
    return f"{duration(gone)} gone" + (f", {duration(left)} left" if left else "")


@contextlib.contextmanager
def display(specs: Sequence[RunSpec], describe: Callable[[RunSpec], str]) -> Iterator[Display]:
    """A display as long as the block lasts.

    Args:
        describe: what a run is called in a few words.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR),
        MofNCompleteColumn(),
        TextColumn("{task.fields[times]}", markup=False),
    )
    console = Console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Display(bars, specs, describe)
