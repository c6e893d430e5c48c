"""What is kept of a study beside its runs: its plan as it stood before the first run, and each look at its verdicts."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from attnbench.console import listed, printable, say
from attnbench.errors import StoreProblem, writing
from attnbench.files import add_line, replacing, whole_lines
from attnbench.spec.study import Study
from attnbench.spec.validation import violations
from attnbench.store.runs import Store

Seen = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Cell -> arm -> the seeds whose results a verdict was about."""

PLANNED = ("margin", "pairing", "baseline", "looks", "failures", "seeds", "cells")
"""What a plan is, and what its hash is of."""


@dataclass(frozen=True)
class Look:
    """One time at which somebody saw verdicts."""

    time: float
    """Seconds since 1970."""
    seen: Seen
    """Of the cells whose data were others than at the look before."""


@dataclass(frozen=True, kw_only=True)
class PlanParts:
    """The parts of a plan as JSON has them, by which one that strangers wrote is checked."""

    margin: Annotated[float, Gt(0), Lt(float("inf"))]
    pairing: Literal["independent", "paired"]
    baseline: str
    looks: list[Annotated[int, Ge(2)]] | Literal["any"] | None
    failures: Literal["worst", "drop"]
    seeds: list[Annotated[int, Ge(0)]]
    cells: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class PlanLine(PlanParts):
    """A journal's line of a plan, which strangers may have written."""

    event: Literal["plan"]
    time: float
    hash: str
    begun: bool
    first: list[str]


@dataclass(frozen=True, kw_only=True)
class LookLine:
    """A journal's line of a look, which strangers may have written."""

    event: Literal["look"]
    time: float
    seen: dict[str, dict[str, list[int]]]


LINES: dict[str, type] = {"plan": PlanLine, "look": LookLine}
"""The event of a line -> what it holds."""


class StudyJournal:
    """`STORE/studies/NAME.jsonl`: lines are added, never changed.

    Events: `plan` (its parts, their `hash`, its `first` run, and whether any run had `begun` by then) and `look`
    (what was `seen`).
    """

    def __init__(self, store: Store, name: str = "records") -> None:
        """`name`: the study's slug; without a study, runs are looked at as `records`."""
        self.name = name
        self.file = store.path / "studies" / f"{name}.jsonl"
        self.store = store

    def keep_plan(self, study: Study) -> None:
        """Write the study's plan, if it is not the one written last.

        Raises:
            StoreProblem: the store cannot be written.
        """
        plan = plan_of(study)
        with self._held():
            plans = self._events("plan")
            if not plans or plans[-1]["hash"] != digest(plan):
                runs = [spec.id for spec in study.runs()]
                known = [*runs, *(run for each in plans for run in each["first"])]  # runs are begun in their order
                begun = any((self.store.folder(run) / "journal.jsonl").is_file() for run in known)
                self._add("plan", hash=digest(plan), begun=begun, first=runs[:1], **plan)

    def keep_look(self, seen: Seen) -> None:
        """Write that verdicts were seen, of those cells whose results are new; where that cannot be, say so."""
        try:
            with self._held():
                before = [look.seen for look in self.looks()]
                new = {
                    cell: dict(arms)
                    for cell, arms in seen.items()
                    if not any(arms.items() <= one.get(cell, {}).items() for one in before)
                }
                if new:
                    self._add("look", seen=new)
        except StoreProblem as problem:
            say(f"this look at the verdicts is not kept, and a later one will not know of it: {problem}")

    def looks(self) -> list[Look]:
        """Every look, in order."""
        return [Look(line["time"], _seen(line)) for line in self._events("look")]

    def wholes(self) -> list[Seen]:
        """What was known of all cells together at each look at which no cell of the plan was missing, in order."""
        planned, found = 0, list[Seen]()
        known: Seen = {}
        for line in self.lines():
            if line["event"] == "plan":
                planned = sum(len(arms) > 1 for arms in line["cells"].values())
                continue
            known = merged_seen(known, _seen(line))
            if len(known) >= max(planned, 2):
                found.append(known)
        return found

    def changes(self, study: Study) -> list[str]:
        """What of the plan is other than before the first run: a few words each; nothing where no plan was kept."""
        return self.changes_to(plan_of(study))

    def changes_to(self, plan: Mapping[str, Any]) -> list[str]:
        """The same of a plan as JSON has it."""
        plans = self._events("plan")
        if not plans:
            return []
        first = [each for each in plans if not each["begun"]] or plans[:1]
        return differences(first[-1], plan)

    def undeclared(self, plan: Mapping[str, Any]) -> str:
        """Why a plan is not the one that was declared before the first run; empty where it is."""
        plans = self._events("plan")
        before = [each for each in plans if not each["begun"]]
        if not before:
            return "runs had begun when the plan was written" if plans else "no plan was written before the runs"
        return "; ".join(differences(before[-1], plan))

    def lines(self) -> list[dict[str, Any]]:
        """Its plans and looks, in order.

        Raises:
            StoreProblem: it cannot be read, or a line is neither.
        """
        try:
            found = whole_lines(self.file)
        except OSError as problem:
            raise StoreProblem(f"{self.file} cannot be read: {problem.strerror or problem}") from None
        for number, line in enumerate(found, start=1):
            if wrong := line_mistake(line):
                raise StoreProblem(f"{self.file}:{number}: {printable(wrong)}")
        return found

    def take(self, lines: Sequence[dict[str, Any]]) -> None:
        """Put the lines of another journal among its own, in the order of their times.

        Raises:
            StoreProblem: it cannot be read or written.
        """
        with self._held():
            known = {json.dumps(line, sort_keys=True): line for line in [*self.lines(), *lines]}
            with replacing(self.file) as out:
                for line in sorted(known.values(), key=lambda line: line["time"]):
                    out.write(json.dumps(line) + "\n")

    def _events(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == kind]

    def _add(self, event: str, **values: object) -> None:
        add_line(self.file, {"event": event, "time": round(time.time(), 3), **values})

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """The journal, to be read and added to by one process at a time."""
        from filelock import FileLock

        locks = self.store.path / ".locks"
        with writing(self.file):
            for folder in (locks, self.file.parent):
                folder.mkdir(parents=True, exist_ok=True)
            with FileLock(locks / f"study-{self.file.stem}.lock"):
                yield


def _seen(line: Mapping[str, Any]) -> Seen:
    """What a journal's line of a look says was seen."""
    return {cell: {arm: tuple(seeds) for arm, seeds in arms.items()} for cell, arms in line["seen"].items()}


def merged_seen(before: Seen, now: Seen) -> dict[str, dict[str, tuple[int, ...]]]:
    """What is known after a look, which tells of the cells and arms that are new."""
    return {cell: {**before.get(cell, {}), **now.get(cell, {})} for cell in {**before, **now}}


def line_mistake(line: Any) -> str:
    """What is wrong with a line of a study's journal, which strangers may have written; empty if nothing is."""
    kind = LINES.get(str(line.get("event"))) if isinstance(line, dict) else None
    if kind is None:
        return "is no plan and no look"
    return next((f"{'.'.join(map(str, place))} {what}" for place, what in violations(kind, line)), "")


def plan_of(study: Study) -> dict[str, Any]:
    """What is declared before the first run, as JSON has it."""
    return {
        "margin": float(study.margin),
        "pairing": study.pairing,
        "baseline": study.baseline,
        "looks": study.looks,
        "failures": study.failures,
        "seeds": study.seed_list,
        "cells": {cell: [arm.text for arm in arms] for cell, arms in study.cells().items()},
    }


def digest(plan: Mapping[str, Any]) -> str:
    """Twelve hex digits that name a plan."""
    kept = {name: plan[name] for name in PLANNED}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed from one plan to another, a few words each."""
    said = []
    for name in PLANNED[:-1]:
        if before[name] != now[name]:
            was, is_ = (_words(name, plan[name]) for plan in (before, now))
            said.append(f"{name} changed from {was} to {is_}")
    arms = [{(cell, arm) for cell, own in plan["cells"].items() for arm in own} for plan in (before, now)]
    for what, gone in (("added", arms[1] - arms[0]), ("left out", arms[0] - arms[1])):
        if gone:
            said.append(f"{listed(sorted({arm for _, arm in gone}))} {what}")
    return said


def _words(name: str, value: Any) -> str:
    if name == "seeds":
        return str(len(value)) if value == list(range(len(value))) else str(value)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
