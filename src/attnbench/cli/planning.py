"""Verbs that plan a study: power, variance, tune."""

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from attnbench.cli.flags import StoreFlag
from attnbench.errors import AttnbenchError, BadStudy

if TYPE_CHECKING:
    from attnbench.report.sheet import Sheet


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
    _show(sheet(plan.name, found), out or Path("reports") / plan.slug, "power")
    return 0


def _show(sheet: "Sheet", folder: Path, name: str) -> None:
    """Print a sheet and write it."""
    files = sheet.write(folder, name)
    print(sheet.markdown())
    print(f"\nwritten: {files[0]} and {len(files) - 1} files beside it")
