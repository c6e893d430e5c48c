"""What a bundle says was declared before its runs: the study's file, the plan, and when it was written."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attnbench.analysis.comparison import Comparison, open_arms, warned
from attnbench.analysis.replay import Declared
from attnbench.catalogue.foreign import barred
from attnbench.console import listed
from attnbench.errors import BadStudy
from attnbench.examine.remarks import Remark, failed, note, ok, settled
from attnbench.files import whole_lines
from attnbench.spec.study import Study
from attnbench.spec.yaml import load
from attnbench.store.bundle import STUDY, Bundle
from attnbench.store.runs import RunRecord, Store
from attnbench.store.studies import StudyJournal, differences, digest, line_mistake, plan_of

PLAIN = ("margin", "pairing", "baseline", "looks", "failures")
"""Parts of a plan that stand in the study's file as they are."""
MOST_RUNS = 60_000
"""Runs of a study that are written out: more than a bundle can hold."""
MOST_RULES = 1_000_000
"""Pairs of a cell and a rule of `where` that are gone through: some minutes."""


def study_remarks(bundle: Bundle, records: Sequence[RunRecord], elsewhere: bool) -> Iterator[Remark]:
    """What holds of the study's file, of its plan and of its journal.

    Args:
        elsewhere: whether cards of these runs have other versions here, so that cells are called otherwise.
    """
    wrong = [*_journal_mistakes(bundle)]
    yield from map(failed, wrong)
    parts = bundle.manifest.plan
    if parts is None and STUDY not in bundle.manifest.files:
        yield note("a folder of runs without a study: nothing says what was planned, or what was left out")
    elif parts is None or not (bundle.folder / STUDY).is_file():
        yield failed(f"{STUDY} and a plan belong together, and one of them is missing")
    elif sum(map(len, parts["cells"].values())) * len(parts["seeds"]) > MOST_RUNS:
        yield failed(f"the plan of the manifest has more than {MOST_RUNS:,} runs")
    else:
        yield from _file_remarks(bundle.folder / STUDY, bundle.manifest.name, parts, elsewhere)
        if not wrong:
            yield from _time_remarks(bundle, parts, records)
        yield from _run_remarks(declared_of(bundle), records)


def declared_of(bundle: Bundle) -> Declared:
    """What the analysis goes by."""
    if bundle.manifest.plan is None:
        return Declared()
    try:
        tuned = load(bundle.folder / STUDY, []).values.get("tuned", [])
    except BadStudy:
        tuned = []
    return Declared.of(bundle.manifest.plan, tuned if isinstance(tuned, list) else [])


def journal_of(bundle: Bundle) -> StudyJournal:
    """The journal of plans and looks that came with the runs; without lines where none did."""
    names = [Path(name).stem for name in bundle.manifest.files if name.startswith("studies/")]
    return StudyJournal(Store(bundle.folder), names[0] if names else "records")


def reported(comparison: Comparison, bundle: Bundle, records: Sequence[RunRecord]) -> Comparison:
    """A comparison told again, with the warnings that its author's report has."""
    declared, plan = declared_of(bundle), bundle.manifest.plan
    missing = len(_needed(comparison, declared) - {declared.place(record) for record in records})
    changes = journal_of(bundle).changes_to(plan) if plan is not None else []
    return dataclasses.replace(warned(comparison, records), missing=missing, changes=tuple(changes))


def _needed(comparison: Comparison, declared: Declared) -> set[tuple[str, str, int]]:
    """The planned runs that verdicts need: of the arms that are not decided, and of what they are compared with."""
    looks, decided = declared.plan.looks, {(cell, arm.text) for cell, arm in comparison.decided}
    baselines = {(cell, arm.text) for (cell, arm), found in comparison.places.items() if found.contrast is None}
    seeds = declared.seeds[: looks[-1]] if isinstance(looks, tuple) and looks else declared.seeds
    found = set()
    for cell, arms in declared.cells.items():
        baseline = next((arm for arm in arms if (cell, arm) in baselines), None)
        settled = [arm for arm in arms if (cell, arm) in decided]
        found |= {(cell, arm, seed) for arm in open_arms(arms, baseline, settled) for seed in seeds}
    return found


def plan_words(bundle: Bundle) -> str:
    """How the plan of a bundle stands, in few words."""
    if bundle.manifest.plan is None:
        return "none"
    if reason := journal_of(bundle).undeclared(bundle.manifest.plan):
        return f"not declared: {reason}"
    known = any(began is not None for began, _ in bundle.manifest.runs.values())
    return "declared before the runs" if known else "declared; when runs began is not known"


def _journal_mistakes(bundle: Bundle) -> Iterator[str]:
    """Lines that are none of a journal, and plans that are not what their hash says."""
    journal = journal_of(bundle)
    if sum(name.startswith("studies/") for name in bundle.manifest.files) > 1:
        yield "it holds more than one journal of a study"
    for number, line in enumerate(whole_lines(journal.file), start=1):
        wrong = line_mistake(line)
        if wrong:
            yield f"{journal.file.name}:{number}: {wrong}"
        elif line["event"] == "plan" and digest(line) != line["hash"]:
            yield f"{journal.file.name}:{number}: the hash of this plan is {digest(line)}, not {line['hash']}"


def _file_remarks(file: Path, name: str, parts: Mapping[str, Any], elsewhere: bool) -> Iterator[Remark]:
    """Whether the study's file declares what the manifest says that it does."""
    try:
        values = load(file, []).values
        if _runs_at_most(values) > MOST_RUNS:
            raise BadStudy([f"{STUDY}: more than {MOST_RUNS:,} runs"])
        rules = values.get("where")
        if isinstance(rules, list) and _cells_at_most(values) * len(rules) > MOST_RULES:
            raise BadStudy([f"{STUDY}: cells and rules for them that give more than {MOST_RULES:,} pairs"])
    except BadStudy as problem:
        yield from map(failed, _lines(problem, file))
        return
    if values.get("name") != name:
        yield failed(f"{STUDY} is of the study {values.get('name')!r}, the manifest of {name!r}")
    if changed := [part for part in PLAIN if _plain(values, part) != parts[part]]:
        yield failed(f"{STUDY} and the plan of the manifest differ in {listed(changed)}")
        return
    with barred() as refused:
        try:
            plan = json.loads(json.dumps(plan_of(Study.load(file))))
        except BadStudy as problem:
            if refused:
                yield note(f"{STUDY} names code of its own ({listed(sorted(set(refused)))}): its cells are not derived")
            elif elsewhere:
                yield note(f"{STUDY} is not one of this version of attnbench: its cells are not derived")
            else:
                yield from map(failed, _lines(problem, file))
            return
    said = "; ".join(differences(parts, plan)) or ("" if plan == parts else "other seeds")
    if said and elsewhere:
        yield note(f"{STUDY} gives other cells here, where cards have other versions")
    else:
        yield from settled(f"{STUDY} declares this plan, {digest(parts)}", [f"{STUDY}: {said}"] if said else [])


def _time_remarks(bundle: Bundle, parts: Mapping[str, Any], records: Sequence[RunRecord]) -> Iterator[Remark]:
    """Whether this very plan was written before the first run, as far as journals tell."""
    journal, times = journal_of(bundle), bundle.manifest.runs
    if reason := journal.undeclared(parts):
        say = failed if bundle.manifest.declared else note
        yield say(f"this plan is not one that was declared before the first run: {reason}")
        return
    written = [line["time"] for line in journal.lines() if line["event"] == "plan" and not line["begun"]][-1]
    begun = {run: began for run, (began, _) in times.items() if began is not None}
    early = min(begun, key=lambda run: begun[run], default="")
    if early and not written <= begun[early]:  # nor by a time that is no number
        yield failed(f"the plan was written at {when(written)}, and run {early} had begun at {when(begun[early])}")
    elif begun:
        known = f"{len(begun)} of {len(records)} runs say when they began"
        yield ok(f"the plan was written at {when(written)}, before the first run began ({known})")
    else:
        yield note(
            f"the plan was written at {when(written)}, when no run had begun, it says; no run says when it began"
        )


def _run_remarks(declared: Declared, records: Sequence[RunRecord]) -> Iterator[Remark]:
    """Whether the runs are those of the plan, and how many of those are not there."""
    looks, seeds = declared.plan.looks, len(declared.seeds)
    if isinstance(looks, tuple) and (list(looks) != sorted(set(looks)) or not 0 < max(looks, default=0) <= seeds):
        yield failed(f"the plan has looks at {list(looks)} seeds an arm, and {seeds} seeds")
    there = {declared.place(record): record for record in records}
    for place in sorted(there.keys() - declared.places):
        yield failed(f"run {there[place].id} ({place[1]}, seed {place[2]}) is none that the plan asks for")
    if absent := declared.places - there.keys():
        cell, arm, seed = min(absent)
        yield note(
            f"{len(absent):,} of {len(declared.places):,} planned runs are not there (the first: {arm}, seed {seed}, "
            f"of {cell}); an arm that a look decided needs no more"
        )


def _plain(values: Mapping[str, Any], part: str) -> object:
    """A part of a plan as the study's file has it."""
    defaults = {each.name: each.default for each in dataclasses.fields(Study)}
    return values.get(part, defaults[part])


def _runs_at_most(values: Mapping[str, Any]) -> int:
    """How many runs a study's file asks for, before anything of it is written out."""
    seeds, looks = values.get("seeds"), values.get("looks")
    last = looks[-1] if isinstance(looks, list) and looks else 1
    count = len(seeds) if isinstance(seeds, list) else seeds or last
    return _cells_at_most(values) * count if isinstance(count, int) else 0


def _cells_at_most(values: Mapping[str, Any]) -> int:
    grid = values.get("grid")
    return math.prod(len(each) for each in grid.values() if isinstance(each, list)) if isinstance(grid, dict) else 1


def _lines(problem: BadStudy, file: Path) -> list[str]:
    """What is wrong with a study's file, under the name that it has in a bundle."""
    return [line.replace(str(file), STUDY) for line in str(problem).splitlines()]


def when(seconds: float) -> str:
    """A time as a date; of one that is none, the number."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"
