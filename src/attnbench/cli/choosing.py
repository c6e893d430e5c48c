"""The verbs that seek a mechanism: choose, by training; advise, by what was trained already."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from attnbench.cli.flags import ExecutionFlags, RuntimeFlags, vacant

if TYPE_CHECKING:
    from attnbench.analysis.choosing import Round
    from attnbench.execution.choosing import Before
    from attnbench.execution.executors import Execution
    from attnbench.report.advice import Choice
    from attnbench.spec.contest import Contest
    from attnbench.spec.run import Runtime
    from attnbench.spec.study import Study
    from attnbench.store.runs import Store


def choose(
    file: Positional[Path],
    runtime: RuntimeFlags,
    how: ExecutionFlags,
    dry_run: bool = False,
    out: Path | None = None,
) -> int:
    """Find the best of many mechanisms under a budget: screen on validation images, confirm on test images.

    Args:
        file: A study whose grid.attention is a list, all, or kind: D, with a budget; a YAML file.
        dry_run: Measure what limits are about, say what would be trained and about how long it takes; train nothing.
        out: Folder of the answer (default: reports/NAME).
    """
    from attnbench.cli.training import possible
    from attnbench.report.advice import outline_lines
    from attnbench.spec.contest import Contest

    contest = Contest.load(file)
    runtime = dataclasses.replace(runtime, numerics=runtime.numerics or possible(contest.numerics, file))
    before = _before(contest, runtime, dry_run)
    print(f"{contest.name}: {len(contest.arms)} mechanisms, budget {contest.amount:g} {contest.unit}")
    print("\n".join(outline_lines(contest, before.outline(contest), len(before.arms), before.out)), flush=True)
    return 0 if dry_run else _train(contest, before, runtime, how, out or Path("reports") / contest.slug)


def _train(contest: "Contest", before: "Before", runtime: "Runtime", how: "Execution", folder: Path) -> int:
    """Screen, confirm, and answer."""
    from attnbench.cli.training import in_stages
    from attnbench.execution.choosing import confirmation_looks, screened
    from attnbench.execution.sweep import Sweep
    from attnbench.report.advice import round_lines
    from attnbench.store.studies import StudyJournal

    rounds = screened(contest, before.arms, runtime, how)
    sweep = Sweep([], runtime, contest.recipe)
    looks = confirmation_looks(contest, before, rounds, sweep.store)
    print("\n".join(round_lines(contest, rounds, looks)), flush=True)
    study = contest.confirmation(rounds[-1].kept if rounds else before.arms, looks)
    StudyJournal(sweep.store, study.slug).keep_plan(study)
    if code := in_stages(study, dataclasses.replace(sweep, specs=study.runs(), study=study.name), how):
        return code
    return _answer(contest, before, rounds, study, runtime, folder)


def _before(contest: "Contest", runtime: "Runtime", dry_run: bool) -> "Before":
    """What is known before the first run: recalled, or else measured, and kept where anything will be trained."""
    from attnbench.errors import BudgetTooSmall
    from attnbench.examine.limits import within
    from attnbench.execution.choosing import Before, before_file, expected, keep, recalled
    from attnbench.store.runs import Store

    store = Store(runtime.store)
    if found := recalled(contest, store):
        return found
    measured = list(within(contest, runtime, before_file(contest, store).with_suffix(".csv")))
    arms = tuple(each.attention for each in measured if not each.out)
    if not arms:
        why = "; ".join(f"{each.attention}: {each.out}" for each in measured[:3])
        raise BudgetTooSmall(f"limits: no mechanism is within them ({why})")
    found = Before(
        arms,
        {each.attention: each.out for each in measured if each.out},
        {each.attention: each.ratios for each in measured},
        expected(contest, arms, runtime),
    )
    found.outline(contest)  # a budget that is too small is refused before it is spent
    if not dry_run:
        keep(contest, store, found)
    return found


def _answer(
    contest: "Contest", before: "Before", rounds: "Sequence[Round]", study: "Study", runtime: "Runtime", folder: Path
) -> int:
    """Write and print the answer, and the confirmation as an ordinary report beside it."""
    from attnbench.report import write as write_report
    from attnbench.report.advice import advice, alike
    from attnbench.report.choosing import write
    from attnbench.store.runs import Store

    choice = answered(contest, before, rounds, study, Store(runtime.store))
    write_report(choice.comparison, folder / "confirmation")
    files = [*write(choice, folder), study.save(folder / "confirmation.yaml")]
    print(advice(choice))
    print(alike(choice))
    print(
        f"written: {files[0]} and {len(files) - 1} files beside it; the confirmation: {folder}/confirmation/index.html"
    )
    return 0


def answered(
    contest: "Contest", before: "Before", rounds: "Sequence[Round]", study: "Study", store: "Store"
) -> "Choice":
    """What a choice came to whose runs are all in the store.

    Raises:
        Failed: all of them failed on one of the two sides that are compared.
    """
    from attnbench.analysis.comparison import compare
    from attnbench.errors import Failed
    from attnbench.execution.choosing import spent
    from attnbench.report.advice import Choice

    outline, cost = before.outline(contest), spent(contest, study, rounds, store)
    found = compare(study, store)
    if not any(arm.contrast for cell in found.cells for arm in cell.arms):
        raise Failed(
            f"confirmation: every run of {contest.baseline}, or of all mechanisms, failed: nothing can be advised "
            f"(the errors: attnbench store list status=failed --store {store.path})"
        )
    return Choice(contest, outline, before.out, before.ratios, rounds, found, cost)


def advise(
    like: str | None = None,
    parameters: float | None = None,
    latency: float | None = None,
    train_images: int | None = None,
    out: Path | None = None,
) -> int:
    """Say in a sentence which mechanism to take by the committed studies, or that none tells, and how to find out.

    Args:
        like: A data set of the catalogue that is like yours (default: any).
        parameters: At most so many times the plain network's parameters: 1.05.
        latency: At most so many times the plain network's latency: 1.10.
        train_images: How many training images you have.
        out: Where to write the study file that would tell, if none of ours does (default: it is printed).
    """
    from attnbench.analysis.findings import advised, known
    from attnbench.catalogue.registry import DATASETS
    from attnbench.errors import AttnbenchError, writing
    from attnbench.report.counsel import sentence, strength, study_file

    given = {"parameters": parameters, "latency": latency}
    limits = {name: most for name, most in given.items() if most is not None}
    if wrong := [f"--{name} {most:g}" for name, most in limits.items() if not most > 0]:
        raise AttnbenchError(f"{wrong[0]}: a ratio to the plain network is above 0; 1.05 allows 5 % more")
    if train_images is not None and train_images < 1:
        raise AttnbenchError(f"--train-images {train_images}: at least 1")
    name = DATASETS.resolve(like).entry.name if like else None
    found = advised(known(), name, limits, train_images)
    print(f"{sentence(found, name, limits, train_images)}\n{strength(found)}")
    if found.better:
        return 0
    text = study_file(like if like and "(" in like else name, limits)
    if out is None:
        print(f"\nA study that would tell (attnbench choose FILE):\n\n{text}", end="")
    else:
        with writing(out):
            vacant(out).write_text(text, encoding="utf-8")
        print(f"written: {out}; attnbench choose {out} --dry-run says what it takes")
    return 0
