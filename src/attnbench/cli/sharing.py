"""Verbs on bundles, the evidence of a study as one file: submit, verify, leaderboard."""

import json
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from attnbench.cli.flags import CodeFlag, DataFlag, StoreFlag
from attnbench.cli.reading import comparison_of, runtime_of
from attnbench.console import printable
from attnbench.errors import BadBundle, StoreProblem

if TYPE_CHECKING:
    from attnbench.examine.verify import Verification
    from attnbench.report.leaderboard import Entrant


def submit(source: Positional[Path], store: StoreFlag = None, out: Path | None = None) -> int:
    """Put the evidence of a study, or of a folder of runs, into one file: records, predictions, plan and verdicts.

    Args:
        source: A study file, or a folder of runs.
        out: The file (default: the study's name and a hash of all that the bundle holds).
    """
    bundled(source, store, out)
    return 0


def bundled(source: Path, store: str | None, out: Path | None, weights: bool = False) -> None:
    """Write the bundle of a study, or of a folder of runs, and say what is in it."""
    from attnbench.analysis.recorded import seen_now
    from attnbench.report.text import counted, verdict_rows
    from attnbench.spec.study import Study
    from attnbench.store.bundle import write
    from attnbench.store.studies import plan_of

    comparison, journal = comparison_of(source, store)
    journal.keep_look(seen_now(comparison.cells))  # whoever opens the bundle sees them
    study = None if source.is_dir() else Study.load(source)
    found = journal.store.records() if study is None else [journal.store.record(spec.id) for spec in study.runs()]
    records = [record for record in found if record is not None]
    plan = None if study is None else json.loads(json.dumps(plan_of(study)))
    undeclared = "" if plan is None else journal.undeclared(plan)
    about = {
        "name": comparison.name,
        "plan": plan,
        "declared": plan is not None and not undeclared,
        "verdicts": verdict_rows(comparison),
    }
    file = write(journal, records, about, source.read_bytes() if study else None, out, weights)
    if undeclared:
        print(f"no plan is declared in it: {undeclared}")
    if comparison.missing:
        print(f"{counted(comparison.missing, 'run')} of this study are not done yet")
    print(f"written: {file} ({counted(len(records), 'run')}); attnbench verify {file} examines it")


def verify(bundle: Positional[Path], retrain: str | None = None, data_dir: DataFlag = None, code: CodeFlag = ()) -> int:
    """Examine a bundle that anybody made: hashes, names, scores, verdicts, plan; exit code 1 if anything is not so.

    Nothing in it is run or imported. With --retrain a run is trained again, from the code of this installation and of
    what --code names.

    Args:
        bundle: The file that attnbench submit wrote.
        retrain: Train this run again (the beginning of its id), or any: one drawn by chance.
    """
    from attnbench.examine.verify import verify as examined

    with tempfile.TemporaryDirectory(prefix="attnbench-verify-") as folder:
        found = examined(bundle, Path(folder))
        print("\n".join(map(str, found.remarks)), flush=True)
        wrong = len(found.problems)
        if retrain is not None:
            wrong += _different(found, retrain, data_dir, code)
    print(f"{bundle}: {f'not what it says, {wrong} FAILED' if wrong else 'all of this is what it says'}")
    return int(wrong > 0)


def leaderboard(folder: Positional[Path], out: Path | None = None) -> int:
    """Show the bundles of a folder beside each other, cell by cell; those that are not what they say are not ranked.

    Args:
        folder: A folder of bundles, each of which is examined now.
        out: Folder of the page and its Markdown (default: reports/leaderboard).
    """
    from attnbench.report.leaderboard import markdown, write

    files = sorted(folder.glob("*.zip"))
    if not files:
        raise StoreProblem(f"{folder}: no bundle (a file NAME-HASH.zip of attnbench submit) lies there")
    entrants = [_entrant(file) for file in files]
    written = write(entrants, out or Path("reports/leaderboard"))
    print(markdown(entrants))
    print(f"written: {written[0]} and {written[1]}")
    return 0


def _different(found: "Verification", retrain: str, data_dir: str | None, code: tuple[str, ...]) -> int:
    """Train a run again, and say how it came out; 1 where it is not the same."""
    from attnbench.examine.remarks import failed, note, ok
    from attnbench.examine.reproduce import reproduce
    from attnbench.examine.verify import retrainable

    if found.problems:
        print(note("no run is trained again, for the bundle is not what it says"))
        return 0
    asked = retrainable(found.records, retrain)
    if not asked or (retrain != "any" and len(asked) > 1):
        raise StoreProblem(f"--retrain {retrain}: {len(asked)} runs that are done and can be trained here; give an id")
    run = random.SystemRandom().choice(asked)  # no stream: whoever made the bundle must not know which
    print(note(f"training run {run} again"), flush=True)
    again = reproduce(str(found.bundle.folder / run), runtime_of(data_dir=data_dir), code)
    first, *rest = f"run {run} trained again: {again}".splitlines()
    print(failed(first) if again.verdict == "different" else ok(first))
    for line in rest:
        print(" " * 8 + printable(line))
    return int(again.verdict == "different")


def _entrant(file: Path) -> "Entrant":
    from attnbench.examine.declarations import plan_words
    from attnbench.examine.verify import verify as examined
    from attnbench.report.leaderboard import Entrant

    with tempfile.TemporaryDirectory(prefix="attnbench-leaderboard-") as folder:
        try:
            found = examined(file, Path(folder))
        except BadBundle as problem:
            return Entrant(
                file.name, refused=tuple(line.removeprefix(f"{file}: ") for line in str(problem).splitlines())
            )
        if found.comparison is None or found.problems:
            return Entrant(file.name, found.bundle.digest, refused=tuple(found.problems))
        return Entrant(file.name, found.bundle.digest, found.comparison, plan_words(found.bundle), found.recounted)
