"""Stores that grow and travel: what lies in one, several made into one, and what is not needed any more."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import StoreProblem, writing
from attnbench.files import replacing, whole_lines
from attnbench.store.record import RunRecord
from attnbench.store.runs import Store

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
        values = {**record.spec, "status": record.status, "recipe": record.recipe}
        if unknown := wanted.keys() - values.keys():
            raise StoreProblem(f"{min(unknown)!r} is no field of a run; known are {', '.join(sorted(values))}")
        if all(str(values[name]) == text for name, text in wanted.items()):
            yield record


def merge(goal: Store, sources: Sequence[Store]) -> Merged:
    """Copy into `goal` every run that it has not: whole folders, each in one step, and what is known of studies.

    A run that is done takes the place of one that failed or has not ended; of two results of one run neither is chosen.

    Raises:
        StoreProblem: a source that is no folder, or a file that cannot be read or written.
    """
    copied, same, conflicts = list[str](), list[str](), dict[str, str]()
    for source in sources:
        if not source.path.is_dir():
            raise StoreProblem(f"{source.path}/: no such folder")
        for folder in sorted(
            path for path in source.path.iterdir() if (path / "journal.jsonl").is_file() or _has(path)
        ):
            run, theirs, ours = folder.name, source.record(folder.name), goal.record(folder.name)
            if ours is not None and ours.done and theirs is not None and theirs.done:
                different = [name for name in RESULT if vars(ours)[name] != vars(theirs)[name]]
                if different:
                    conflicts[run] = f"{folder} differs in {', '.join(different)}"
                else:
                    same.append(run)
            elif (ours is not None and ours.done) or (theirs is None and goal.folder(run).exists()):
                same.append(run)
            else:
                _take(folder, goal.folder(run))
                copied.append(run)
        _merge_studies(source, goal)
    return Merged(tuple(copied), tuple(same), conflicts)


def needless(store: Store) -> list[Path]:
    """Files that nothing needs: checkpoints of runs that are done, what a crash left half written."""
    states = [file for file in sorted(store.path.glob("*/checkpoint-*.pt")) if store.done(file.parent.name)]
    return [*(file for file in store.path.rglob("*.partial") if file.is_file()), *states]


def _has(folder: Path) -> bool:
    return (folder / "record.json").is_file()


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


def _merge_studies(source: Store, goal: Store) -> None:
    """What was planned and looked at anywhere was planned and looked at: all lines, in the order of their times."""
    for file in sorted((source.path / "studies").glob("*.jsonl")):
        own = goal.path / "studies" / file.name
        lines = {json.dumps(line, sort_keys=True): line for line in [*whole_lines(own), *whole_lines(file)]}
        ordered = sorted(lines.values(), key=lambda line: line.get("time", 0))
        with writing(own):
            own.parent.mkdir(parents=True, exist_ok=True)
            with replacing(own) as out:
                out.write("".join(json.dumps(line) + "\n" for line in ordered))
