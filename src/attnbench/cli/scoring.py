"""Verbs on scores of runs that were trained elsewhere: verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from attnbench.errors import BadScores
from attnbench.store.origin import Origin

if TYPE_CHECKING:
    from attnbench.store.scores import Table


def verdict(
    origin: Annotated[Origin, arg(name="")],
    source: Positional[Path | None] = None,
    baseline: str | None = None,
    margin: float | None = None,
    pairing: Literal["independent", "paired"] = "independent",
    failures: Literal["worst", "drop"] = "worst",
    chance: float | None = None,
    unit: str | None = None,
    lower_is_better: bool = False,
    out: Path | None = None,
) -> int:
    """Give verdicts on scores of runs that were trained elsewhere: a CSV file, an MLflow experiment, or ultralytics.

    Args:
        source: A CSV file (columns arm, seed, score; cell, unit, higher_is_better), or a folder of ultralytics runs.
        baseline: The arm that every other is compared with (default: the one called none or baseline).
        margin: The largest difference that does not matter, in the scores' unit (default: 1 point, 0.01 of shares).
        pairing: Whether equal seeds are pairs.
        failures: A failed run (nan) scores the worst finite score of its cell, or is left out.
        chance: What a failed run scores instead of the worst.
        unit: Unit of the scores, where no column says it: % or any text.
        lower_is_better: Whether a lower score is the better one, where no column says it.
        out: Folder for the page and the tables (default: they are only printed).
    """
    from attnbench.analysis.scored import Terms, compared
    from attnbench.report import markdown, write

    terms = Terms(baseline, margin, pairing, failures, chance, unit, False if lower_is_better else None)
    found = compared(_table(source, origin, lower_is_better), terms)
    print(markdown(found))
    if out is not None:
        files = write(found, out)
        print(f"written: {files[0]} and {len(files) - 1} files beside it")
    return 0


def _table(source: Path | None, origin: Origin, lower_is_better: bool) -> "Table":
    """The scores of whichever source is given."""
    if (source is None) == (origin.mlflow is None):
        raise BadScores(["give a CSV file, a folder of ultralytics runs, or --mlflow EXPERIMENT; one of them"])
    if source is None:
        from attnbench.store.tracked import tracked

        return tracked(origin)
    if source.is_dir():
        from attnbench.store.ultralytics import trained

        return trained(source, origin, lower_is_better)
    if origin != Origin():
        given = [name for name, value in vars(origin).items() if value != getattr(Origin(), name)]
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise BadScores([f"{source} is a table, of which the columns arm, seed and score are taken; leave {flags} out"])
    from attnbench.store.scores import read

    return read(source)
