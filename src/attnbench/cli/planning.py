"""Verbs that plan a study: power, variance, tune."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from attnbench.cli.flags import ExecutionFlags, RuntimeFlags, StoreFlag
from attnbench.cli.training import foretell, possible, tell_failures
from attnbench.errors import AttnbenchError, BadStudy

if TYPE_CHECKING:
    from attnbench.execution.executors import Execution
    from attnbench.execution.sweep import Sweep
    from attnbench.report.sheet import Sheet
    from attnbench.spec.study import Study


def power(file: Positional[Path], store: StoreFlag = None, spread: float | None = None, out: Path | None = None) -> int:
    """Say what the design of a study can find, and with how many seeds, before anything is trained.

    Args:
        file: The study, a YAML file.
        spread: Standard deviation between seeds in points (default: that of done runs of these cells in the store).
        out: Folder of the sheet (default: reports/NAME).
    """
    from attnbench.analysis.prospects import prospects
    from attnbench.report.prospects import sheet
    from attnbench.spec.study import Study
    from attnbench.store.runs import Store

    if spread is not None and not 0 < spread < float("inf"):
        raise AttnbenchError(f"--spread {spread:g} must be a positive number of points")
    plan = Study.load(file)
    found = prospects(plan, (Store(store) if store else Store.default()).records(), spread)
    if not found:
        raise BadStudy([f"{file}: no cell has an arm beside the baseline {plan.baseline!r}: nothing is compared"])
    _show(sheet(plan.name, found), _folder(out, plan), "power")
    return 0


def variance(
    file: Positional[Path],
    runtime: RuntimeFlags,
    how: ExecutionFlags,
    attention: str | None = None,
    seeds: int = 8,
    dry_run: bool = False,
    out: Path | None = None,
) -> int:
    """Train one arm with each source of chance varied alone, and say how much each moves its accuracy.

    Args:
        file: The study, a YAML file.
        attention: The arm (default: the study's baseline).
        seeds: Runs for each source.
        dry_run: Say which runs there are, and about how long they take; train nothing.
        out: Folder of the sheet (default: reports/NAME).
    """
    from attnbench.execution.chance import budgets, runs_of
    from attnbench.execution.sweep import Sweep
    from attnbench.report.variance import sheet
    from attnbench.spec.study import Study

    if seeds < 2:
        raise AttnbenchError(f"--seeds {seeds}: a spread needs at least 2")
    plan = Study.load(file)
    arm = attention or plan.baseline
    runtime = dataclasses.replace(runtime, numerics=runtime.numerics or possible(plan.numerics, file))
    cells = runs_of(plan, arm, seeds, runtime.data_dir)
    specs = [spec for each in cells.values() for runs in each.runs.values() for spec in runs]
    sweep = Sweep([*{spec.id: spec for spec in specs}.values()], runtime, plan.recipe, f"{plan.name} variance")
    failed = _do(sweep, how, dry_run)
    if not dry_run:
        _show(sheet(plan.name, arm, budgets(plan, arm, cells, sweep.store)), _folder(out, plan), "variance")
    return int(failed)


def tune(
    file: Positional[Path],
    runtime: RuntimeFlags,
    how: ExecutionFlags,
    dry_run: bool = False,
    out: Path | None = None,
) -> int:
    """Tune every arm of a study by as many trials in the same space, on validation images; write the tuned study.

    Args:
        file: The study with the keys space, trials and sampler, a YAML file.
        dry_run: Say which trials there are, and about how long they take; train nothing.
        out: Folder of the sheet and of the tuned study (default: reports/NAME).
    """
    from attnbench.execution import tuning
    from attnbench.execution.sweep import Sweep
    from attnbench.report.tuning import sheet, write_study
    from attnbench.spec.search import Search

    plan = Search.load(file)
    runtime = dataclasses.replace(runtime, numerics=runtime.numerics or possible(plan.numerics, file))
    if dry_run:
        _do(Sweep(tuning.planned(plan), runtime, plan.recipe, f"{plan.name} search"), how, dry_run)
        return 0
    found, folder = tuning.tune(plan, runtime, how, tell_failures), _folder(out, plan)
    write_study(plan, found, folder / "tuned.yaml")
    _show(sheet(plan, found), folder, "tune")
    print(f"the study with tuned values: attnbench study {folder / 'tuned.yaml'}")
    return 0


def _do(sweep: "Sweep", how: "Execution", dry_run: bool) -> bool:
    """Do the runs that are left, or foretell them; whether any failed."""
    from attnbench.execution.sweep import execute

    pending = sweep.pending()
    print(f"{sweep.study}: {len(sweep.specs)} runs, {len(sweep.specs) - len(pending)} done, {len(pending)} left")
    if dry_run:
        foretell(sweep, pending, how)
        return False
    failures = execute(sweep, how)
    tell_failures(failures, sweep)
    return bool(failures)


def _folder(out: Path | None, plan: "Study") -> Path:
    return out or Path("reports") / plan.slug


def _show(sheet: "Sheet", folder: Path, name: str) -> None:
    """Print a sheet and write it."""
    files = sheet.write(folder, name)
    print(sheet.markdown())
    print(f"\nwritten: {files[0]} and {len(files) - 1} files beside it")
