"""Verbs on stored runs: report, compare, evaluate, fold, predict, reproduce."""

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from attnbench.cli.flags import CodeFlag, DataFlag, StoreFlag, StoreOrBundleFlag
from attnbench.console import printable, printable_lines
from attnbench.errors import AttnbenchError, BadBundle, StoreProblem
from attnbench.spec.run import Runtime

if TYPE_CHECKING:
    from attnbench.analysis.comparison import Comparison
    from attnbench.store.runs import Store
    from attnbench.store.studies import StudyJournal

SHOWN = ("index.html", "cells.csv", "table.md")
"""What of a report goes into MLflow."""


def report(
    source: Positional[Path],
    store: StoreFlag = None,
    out: Path | None = None,
    compare_with: Path | None = None,
    data_dir: DataFlag = None,
    tracker: Literal["mlflow", "none"] = "mlflow",
) -> int:
    """Write and print the comparison of a study, of all runs in a folder, or of a bundle, which is examined first.

    Args:
        source: A study file, a folder of runs, or a bundle (attnbench store export, attnbench submit).
        out: Folder of the report (default: reports/NAME).
        compare_with: A folder or a bundle with the same runs: say whether they are identical, or how far apart.
        tracker: Whether MLflow, where it has runs of the study, gets the page, the verdicts and the study file too.
    """
    from attnbench.analysis.recorded import seen_now
    from attnbench.report import agreement, markdown, write
    from attnbench.spec.run import Runtime
    from attnbench.store.bundle import opened
    from attnbench.store.runs import Store

    if compare_with is not None and not compare_with.exists():
        raise StoreProblem(f"--compare-with {compare_with}: no such folder or bundle")
    with evidence(source, store) as (comparison, journal):
        folder = out or Path("reports") / (source.resolve().name if source.is_dir() else journal.name)
        own = source.is_file() and source.suffix != ".zip"  # in others' folders and bundles no path leads to images
        files = write(comparison, folder, (data_dir or Runtime().data_dir) if own else None)
        print(markdown(comparison))
        journal.keep_look(seen_now(comparison.cells))
        print(f"written: {files[0]} and {len(files) - 1} files beside it")
        if tracker == "mlflow" and own:
            _summarised(source, comparison, journal.store, files)
        if compare_with is not None:
            with opened(compare_with) as there:
                where = f"{compare_with}{'/' * compare_with.is_dir()}"
                print(printable_lines(agreement(comparison, Store(there).records(), where)))
    return 0


def _summarised(study: Path, comparison: "Comparison", store: "Store", files: list[Path]) -> None:
    """Keep the page, the verdicts and the study's file in MLflow, where that has runs of the study."""
    from attnbench.report.sentences import verdict_sentences
    from attnbench.store.summary import summarised

    runs = [record.id for cell in comparison.cells for arm in cell.arms for record in arm.records]
    text = "\n".join(f"* {words}" for _, words in verdict_sentences(comparison))
    shown = [file for file in files if file.name in SHOWN]
    summarised(store, runs, comparison.name, text, [*shown, study])


def compare(
    arm: Positional[str],
    other: Positional[str],
    study: Path,
    store: StoreFlag = None,
    expect: Literal["better", "worse"] | None = None,
) -> int:
    """Compare two mechanisms of a study: one sentence and one small table per data set.

    Args:
        arm: The mechanism in question.
        other: What it is compared with.
        study: The study file.
        expect: Exit with 1 unless the verdict is that the first is better (worse).
    """
    from attnbench.analysis.recorded import seen_now
    from attnbench.report.pairs import holds, pair

    comparison, journal = comparison_of(study, store)
    pairs = [pair(cell, arm, other) for cell in comparison.cells]
    print("\n\n".join(str(each) for each in pairs))
    journal.keep_look(seen_now(comparison.cells))
    if expect is None or all(holds(each, expect) for each in pairs):
        return 0
    print(f"attnbench: expected {arm} to be {expect} than {other}, but it is not", file=sys.stderr)
    return 1


def evaluate(
    run: Positional[str],
    gate: Literal["shuffled", "mean"],
    store: StoreFlag = None,
    data_dir: DataFlag = None,
    device: str = "auto",
    code: CodeFlag = (),
) -> int:
    """Test a trained run with other gates than its own: is a gate specific to its image, does accuracy depend on it?

    Args:
        run: An id, the beginning of one, or a run's folder.
        gate: shuffled: each image gets the gates of another test image; mean: the training images' mean gates.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from attnbench.examine.evaluate import evaluate as tested
    from attnbench.store.runs import Store

    runtime = runtime_of(store=store, data_dir=data_dir, device=device)
    found = tested(run, gate, runtime, code)
    record = Store(runtime.store).holding(run).find(run)
    gap = found["accuracy"] - record.accuracy
    print(
        f"test accuracy {found['accuracy']:.2f} % with {gate} gates at {found['sites']} sites, "
        f"{record.accuracy:.2f} % with its own ({gap:+.2f}, {found['images']:,} images)"
    )
    return 0


def fold(
    run: Positional[str],
    margin: float = 0.5,
    output: Path | None = None,
    store: StoreFlag = None,
    data_dir: DataFlag = None,
    device: str = "auto",
    code: CodeFlag = (),
) -> int:
    """Write a trained run without its mechanism, its gates folded into the weights beside them, where that is the same.

    Args:
        run: An id, the beginning of one, or a run's folder.
        margin: The largest change of validation accuracy, in percentage points, that does not matter.
        output: File of the weights, under the plain backbone's names (default: ID-folded.safetensors); the evidence
            goes beside it, as JSON.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from attnbench.examine.folding import fold as without
    from attnbench.examine.folding import prepare
    from attnbench.store.runs import Store

    runtime = runtime_of(store=store, data_dir=data_dir, device=device)
    record = Store(runtime.store).holding(run).find(run)
    file = output or Path(f"{record.id}-folded.safetensors")
    prepare(file)
    found = without(record, margin, runtime, code)
    files = found.write(file)
    print(found)
    print(f"written: {' and '.join(map(str, files))}")
    return 0


def predict(
    run: Positional[str],
    images: Positional[tuple[Path, ...]],
    top: int = 3,
    store: StoreFlag = None,
    device: str = "auto",
    code: CodeFlag = (),
) -> int:
    """Classify image files with a trained run, read and predicted exactly as its test images were.

    Args:
        run: An id, the beginning of one, or a run's folder.
        images: Image files; each gives one line with the most probable classes.
        top: Number of classes shown for each image.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    from attnbench.training.predictor import predict_files

    if not images or top < 1:
        raise AttnbenchError("attnbench predict RUN IMAGE... needs an image file, and --top at least 1")
    names, logits = predict_files(run, images, runtime_of(store=store, device=device), code)
    for file, shares in zip(images, logits.double().softmax(1), strict=True):
        best = shares.topk(min(top, len(names)))
        said = [f"{names[int(c)]} {100 * float(p):.2f} %" for p, c in zip(best.values, best.indices, strict=True)]
        print(printable(f"{file}  {'  '.join(said)}"))
    return 0


def reproduce(
    run: Positional[str], store: StoreOrBundleFlag = None, data_dir: DataFlag = None, code: CodeFlag = ()
) -> int:
    """Train a stored run again under its recorded numerics: identical, within tolerance, or different (exit code 1).

    A tolerance comes from the spread of at least five runs of the same cell, and is never above 1 point.

    Args:
        run: An id, the beginning of one, or a run's folder.
    """
    from attnbench.examine.reproduce import reproduce as again
    from attnbench.store.bundle import opened

    with opened(Path(store or Runtime().store)) as folder:
        result = again(run, runtime_of(store=str(folder), data_dir=data_dir), code)
        print(printable_lines(str(result)))
    return int(result.verdict == "different")


def runtime_of(**given: str | None) -> Runtime:
    """What was given, and the defaults for the rest."""
    fields: dict[str, Any] = {name: value for name, value in given.items() if value}
    return Runtime(tracker="none", **fields)


@contextlib.contextmanager
def evidence(source: Path, store: str | None) -> Iterator[tuple["Comparison", "StudyJournal"]]:
    """The same of a bundle too, whose files are there as long as the block lasts.

    Raises:
        BadBundle: it is none, or not what it says.
    """
    if source.suffix != ".zip":
        yield comparison_of(source, store)
        return
    from attnbench.examine.declarations import journal_of, reported
    from attnbench.examine.verify import verify

    with tempfile.TemporaryDirectory(prefix="attnbench-bundle-") as folder:
        found = verify(source, Path(folder))
        if found.comparison is None or found.problems:
            raise BadBundle(f"{source}: {printable(problem)}" for problem in found.problems)
        yield reported(found.comparison, found.bundle, found.records), journal_of(found.bundle)


def comparison_of(source: Path, store: str | None) -> tuple["Comparison", "StudyJournal"]:
    """The comparison of a study file or of a folder of runs, and the journal that its looks are kept in."""
    from attnbench.analysis.comparison import compare as compared
    from attnbench.spec.study import Study
    from attnbench.store.runs import Store
    from attnbench.store.studies import StudyJournal

    if source.is_dir():
        home = Store(source)
        found = dataclasses.replace(compared(home.records(), home), name=source.resolve().name)
        journal = StudyJournal(home)
    else:
        plan, home = Study.load(source), Store(store) if store else Store.default()
        found, journal = compared(plan, home), StudyJournal(home, plan.slug)
    if not found.cells:
        raise StoreProblem(f"{source}: no run is done yet; attnbench study FILE does the runs of a study")
    return found, journal
