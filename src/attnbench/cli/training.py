"""Verbs that train: run, study."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from attnbench.cli.flags import ExecutionFlags, RuntimeFlags
from attnbench.console import say
from attnbench.spec.portable import lacking
from attnbench.spec.run import RunSpec, Runtime

if TYPE_CHECKING:
    from attnbench.analysis.comparison import Place
    from attnbench.execution.executors import Execution
    from attnbench.execution.sweep import Failure, Sweep
    from attnbench.spec.study import Study


SENTENCES = 12
"""Verdicts that the end of a study says at most; the report has them all."""


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
    """Do all runs of a study file that are not done yet; what is done gives verdicts, and what to do next is said.

    Args:
        file: The study, a YAML file.
        dry_run: Say what is done, what is left, and about how long that takes; train nothing.
        until_decided: Train to each of the study's looks in turn, without the arms that are decided; a failed run is a
            result then, and is not tried again.
    """
    plan, sweep = planned(file, runtime, until_decided)
    if dry_run:
        foretell(sweep, sweep.pending(), how)
        return 0
    code = trained(plan, sweep, how, until_decided)
    if not until_decided:  # whose looks say them
        tell_verdicts(plan, sweep)
    print("\n".join(next_lines(plan, sweep, file, code)))
    return code


def planned(file: Path, runtime: Runtime, until_decided: bool = False) -> tuple["Study", "Sweep"]:
    """A study and its runs, of which is said how many are done and what their design can decide."""
    from attnbench.execution.stages import check_looks
    from attnbench.execution.sweep import Sweep
    from attnbench.spec.study import Study

    plan = Study.load(file)
    check_looks(plan, file, until_decided)
    runtime = dataclasses.replace(runtime, numerics=runtime.numerics or possible(plan.numerics, file))
    sweep = Sweep(plan.runs(), runtime, plan.recipe, plan.name)
    _announce(plan, sweep, sweep.pending())
    return plan, sweep


def trained(plan: "Study", sweep: "Sweep", how: "Execution", until_decided: bool = False) -> int:
    """Keep the plan, and do the runs that are left; 1 where some failed, or a look was not reached."""
    from attnbench.execution.sweep import execute
    from attnbench.store.studies import StudyJournal

    StudyJournal(sweep.store, plan.slug).keep_plan(plan)
    if until_decided:
        return in_stages(plan, sweep, how)
    tell_failures(failures := execute(sweep, how), sweep)
    done = len(sweep.specs) - len(sweep.pending())
    print(f"{plan.name}: {done} of {len(sweep.specs)} runs are done in {sweep.runtime.store}/")
    return 1 if failures else 0


def tell_verdicts(plan: "Study", sweep: "Sweep") -> None:
    """A sentence for each arm of a study whose runs are all done, and keep that they were seen; else nothing."""
    from attnbench.analysis.comparison import compare
    from attnbench.analysis.recorded import seen_now
    from attnbench.report.sentences import verdict_sentences
    from attnbench.store.studies import StudyJournal

    found = compare(plan, sweep.store)
    told = [] if found.missing else verdict_sentences(found)
    if not told:
        return
    print("\n".join(f"  {words}" for _, words in told[:SENTENCES]))
    if len(told) > SENTENCES:
        print(f"  and {len(told) - SENTENCES} more, in the report")
    StudyJournal(sweep.store, plan.slug).keep_look(seen_now(found.cells))


def next_lines(plan: "Study", sweep: "Sweep", file: Path, code: int) -> list[str]:
    """What to do when a study has ended: its report and a comparison, or the same command again."""
    store = "" if sweep.runtime.store == Runtime().store else f" --store {shlex.quote(sweep.runtime.store)}"
    name, arms = shlex.quote(str(file)), dict.fromkeys(spec.attention for spec in sweep.specs)
    others = [arm for arm in arms if arm != plan.baseline]
    found = ["the same command again: it does the runs that are left"] if code else []
    found.append(f"attnbench report {name}{store}: writes reports/{plan.slug}/index.html")
    if others and plan.baseline in arms:
        found.append(f"attnbench compare {shlex.quote(others[0])} {shlex.quote(plan.baseline)} --study {name}{store}")
    if sweep.runtime.tracker == "mlflow":
        found.append("attnbench ui: the curves of all runs, in MLflow")
    return ["next:", *(f"  {line}" for line in found)]


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
