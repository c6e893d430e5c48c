"""Verbs that train: run, study."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from attnbench.cli.flags import ExecutionFlags, RuntimeFlags
from attnbench.console import say
from attnbench.spec.portable import lacking
from attnbench.spec.run import RunSpec

if TYPE_CHECKING:
    from attnbench.analysis.comparison import Place
    from attnbench.execution.executors import Execution
    from attnbench.execution.sweep import Failure, Sweep
    from attnbench.spec.study import Study


def run_verb(flags: Any) -> Callable[..., int]:
    """The verb `run`, whose flags depend on the command line."""

    def run(spec: Annotated[flags, arg(name="")], runtime: RuntimeFlags, recipe: str = "classic") -> int:
        """Train one run, test it once, and store the record; a done run is not trained again.

        Args:
            recipe: Preset that the other flags start from: classic, standard or fast.
        """
        from attnbench.store.runs import Store
        from attnbench.training.done import pending
        from attnbench.training.run import run as train
        from attnbench.training.team import leads

        asked = RunSpec(**vars(spec))
        if leads() and not pending([asked], Store(runtime.store), runtime.data_dir):
            print(f"run {asked.id} is done already")
        record = train(asked, runtime, recipe)
        if not leads():  # torchrun started several processes for this run
            return 0
        count = vars(record)[record.scored]["images"]
        print(f"{record.images} accuracy {record.score:.2f} %  ({count:,} images)  {record.folder}/")
        return 0

    return run


def study(
    file: Positional[Path],
    runtime: RuntimeFlags,
    how: ExecutionFlags,
    dry_run: bool = False,
    until_decided: bool = False,
) -> int:
    """Do all runs of a study file that are not done yet.

    Args:
        file: The study, a YAML file.
        dry_run: Say what is done, what is left, and about how long that takes; train nothing.
        until_decided: Train to each of the study's looks in turn, without the arms that are decided; a failed run is a
            result then, and is not tried again.
    """
    from attnbench.execution.stages import check_looks
    from attnbench.execution.sweep import Sweep, execute
    from attnbench.spec.study import Study
    from attnbench.store.runs import Store
    from attnbench.store.studies import StudyJournal

    plan = Study.load(file)
    check_looks(plan, file, until_decided)
    runtime = dataclasses.replace(runtime, numerics=runtime.numerics or possible(plan.numerics, file))
    sweep = Sweep(plan.runs(), runtime, plan.recipe, plan.name)
    pending = sweep.pending()
    _announce(plan, sweep, pending)
    if dry_run:
        foretell(sweep, pending, how)
        return 0
    StudyJournal(Store(runtime.store), plan.slug).keep_plan(plan)
    if until_decided:
        return in_stages(plan, sweep, how)
    tell_failures(failures := execute(sweep, how), sweep)
    done = len(sweep.specs) - len(sweep.pending())
    print(f"{plan.name}: {done} of {len(sweep.specs)} runs are done in {runtime.store}/")
    return 1 if failures else 0


def in_stages(plan: "Study", sweep: "Sweep", how: "Execution") -> int:
    """Train from look to look, say what each decided, and keep that it was seen."""
    from attnbench.analysis.recorded import seen_now
    from attnbench.execution.stages import until_decided
    from attnbench.report.looks import look_lines
    from attnbench.store.studies import StudyJournal

    journal, before = StudyJournal(sweep.store, plan.slug), frozenset["Place"]()
    for stage in until_decided(plan, sweep, how):
        tell_failures(stage.failures, sweep)
        if not stage.reached:
            print(
                f"{plan.name}: the look at {stage.seeds} seeds an arm is not reached; "
                "the same command goes on from here"
            )
            return 1
        lines = look_lines(stage.comparison, stage.seeds, stage.decided, before, stage.last)
        print("\n".join(lines), flush=True)
        journal.keep_look(seen_now(stage.comparison.cells))
        before = stage.decided
    return 0


def tell_failures(failures: Sequence["Failure"], sweep: "Sweep") -> None:
    """The runs that failed, each with its reason; the traceback of the user's own code once."""
    for trace in dict.fromkeys(failure.trace for failure in failures if failure.trace):
        print(trace, file=sys.stderr)
    for failure in failures:
        print(f"failed: {failure.spec.id}  {sweep.describe(failure.spec)}: {failure.reason}", file=sys.stderr)


def _announce(plan: "Study", sweep: "Sweep", pending: list[RunSpec]) -> None:
    """How much is done and left, and what the design can say."""
    from attnbench.analysis.comparison import designs
    from attnbench.report.designs import design_lines

    print(f"{plan.name}: {len(sweep.specs)} runs, {len(sweep.specs) - len(pending)} done, {len(pending)} left")
    if again := sum(sweep.store.done(spec.id) for spec in pending):
        there = f"{sweep.runtime.data_dir}/"
        print(f"{again} of these were done on other images than are in {there} now, and are done again")
    for design in designs(plan) if pending else []:
        print("\n  ".join(design_lines(design)))


def foretell(sweep: "Sweep", pending: list[RunSpec], how: "Execution") -> None:
    """The runs that are left, and about how long they take."""
    from attnbench.execution.sweep import estimate

    for spec in pending:
        print(f"  {spec.id}  {sweep.describe(spec)}")
    hours = estimate(sweep) if pending else 0.0
    if hours is None:
        print("no estimate: the number of images is known only when the data are there")
        return
    jobs = how.jobs or (1 if how.executor == "local" else None)
    at_once = f"{hours / jobs:.2f} hours with --jobs {jobs} on free cores: " if jobs else ""
    print(f"about {at_once}{hours:.2f} hours of CPU (or GPU) time")


def possible(numerics: Literal["native", "portable"], file: Path) -> Literal["native", "portable"]:
    """What a study's file asks for, where this machine has it; a flag that asks is refused instead."""
    if numerics == "native" or not (why := lacking()):
        return numerics
    say(f"{file}: no portable numerics here ({why}): runs take this machine's own, and digits may differ")
    return "native"
