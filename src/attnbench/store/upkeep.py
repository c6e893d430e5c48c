"""Stores that grow and travel: what lies in one, several made into one, and what is not needed any more."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import StoreProblem
from attnbench.spec.run import LATER
from attnbench.store.record import RunRecord
from attnbench.store.runs import Store
from attnbench.store.studies import StudyJournal

RESULT = ("canonical", "test", "val", "weights_sha256", "data_fingerprint", "split_fingerprint")
"""Fields in which two records of a run must agree to be the same result."""


@dataclass(frozen=True)
class Merged:
    """What became of the runs of several stores, by id."""

    copied: tuple[str, ...]
    same: tuple[str, ...]
    """Already there, with the same result."""
    conflicts: Mapping[str, str]
    """Id -> where another result of the same run lies, and in which fields it differs: neither is chosen."""


def listed(store: Store, wanted: Mapping[str, str]) -> Iterator[RunRecord]:
    """The records whose spec, or status, has these values, as texts: `{"attention": "se", "status": "done"}`.

    Raises:
        StoreProblem: a name that is no field of a run.
    """
    for record in store.each():
        values = {**LATER, **record.spec, "status": record.status, "recipe": record.recipe}
        if unknown := wanted.keys() - values.keys():
            raise StoreProblem(f"{min(unknown)!r} is no field of a run; known are {', '.join(sorted(values))}")
        if all(str(values[name]) == text for name, text in wanted.items()):
            yield record


def merge(goal: Store, sources: Sequence[Store]) -> Merged:
    """Copy into `goal` every run that it has not: whole folders, each in one step, and what is known of studies.

    A run that is done takes the place of one that failed or has not ended; of two results of one run neither is chosen.
    What was planned and looked at anywhere was planned and looked at: journals are merged before any run is copied.

    Raises:
        StoreProblem: a source that is no folder, or a file that cannot be read or written.
    """
    copied, same, conflicts = list[str](), list[str](), dict[str, str]()
    for journal in [journal for source in sources for journal in _journals(source)]:
        StudyJournal(goal, journal.name).take(journal.lines())
    for source in sources:
        for run in source.names():
            folder, theirs = source.folder(run), source.record(run)
            if theirs is None and not (folder / "journal.jsonl").is_file():
                continue
            if _copied(folder, goal, theirs):
                copied.append(run)
            elif different := _differing(goal.record(run), theirs):
                conflicts[run] = f"{folder} differs in {', '.join(different)}"
            else:
                same.append(run)
    return Merged(tuple(copied), tuple(same), conflicts)


def needless(store: Store) -> list[Path]:
    """Files that nothing needs: checkpoints of runs that are done, what a crash left half written or half copied.

    What is half written of a run without a record may be written at this moment; if not, it goes when the run goes on.
    """
    found = [*store.path.glob("*.partial"), *(store.path / "studies").glob("*.partial")]
    for run in store.names():
        if (store.folder(run) / "record.json").is_file():
            found += store.folder(run).glob("*.partial")
        if (states := store.checkpoints(run)) and store.done(run):
            found += states
    return found


def _journals(source: Store) -> list[StudyJournal]:
    """The journals of the studies in a store, each of which can be read.

    Raises:
        StoreProblem: there is no such store, or one of them cannot be read.
    """
    if not source.path.is_dir():
        raise StoreProblem(f"{source.path}/: no such folder")
    found = [StudyJournal(source, file.stem) for file in sorted((source.path / "studies").glob("*.jsonl"))]
    for journal in found:
        journal.lines()
    return found


def _copied(folder: Path, goal: Store, theirs: RunRecord | None) -> bool:
    """Copy a run if it is wanted; it is held, and another process that trains it is waited for."""
    run = folder.name
    if not _wanted(goal, run, theirs):
        return False
    with goal.lock(run):
        if wanted := _wanted(goal, run, theirs):  # still, after waiting
            _take(folder, goal.folder(run))
    return wanted


def _wanted(goal: Store, run: str, theirs: RunRecord | None) -> bool:
    """Whether a run is to be copied: it is done and here it is not, or there is nothing of it here."""
    return not goal.done(run) if theirs is not None and theirs.done else not goal.folder(run).exists()


def _differing(ours: RunRecord | None, theirs: RunRecord | None) -> list[str]:
    """The fields in which two results of a run differ; none where one of them is no result."""
    if ours is None or theirs is None or not (ours.done and theirs.done):
        return []
    return [name for name in RESULT if vars(ours)[name] != vars(theirs)[name]]


def _take(source: Path, goal: Path) -> None:
    """Copy a folder beside its goal, then let it take the goal's place."""
    _refuse_links(source)
    aside = goal.with_name(f".{goal.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(source, aside)
        shutil.rmtree(goal, ignore_errors=True)
        aside.rename(goal)
    except OSError as problem:
        raise StoreProblem(f"{source} cannot be copied to {goal}: {problem.strerror or problem}") from None


def _refuse_links(run: Path) -> None:
    """Refuse a run of a stranger's that would bring along files of this machine which lie outside of its store.

    Raises:
        StoreProblem: a link in it leads out.
    """
    store = run.parent.resolve()
    for file in [run, *run.rglob("*")]:
        if file.is_symlink() and store not in file.resolve().parents:
            raise StoreProblem(f"{file} is a link that leads out of {run.parent}/, and is not copied")
