"""Bundles of several people beside each other: a table for each cell that runs share, as a page and as Markdown."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.recorded import cell_seen
from attnbench.errors import StoreProblem
from attnbench.report.markup import markdown_table
from attnbench.report.page import rendered
from attnbench.report.tables import plain
from attnbench.report.text import entries

TITLE = "Leaderboard"
CAPTION = (
    "Each row is one mechanism as one bundle has it, trained with n seeds: mean test accuracy in percent, and the "
    "difference to the baseline of the same bundle in points, with 95 % intervals for this test set. Rows stand in the "
    "order of accuracy, those first whose every run was recomputed; an order says nothing where intervals overlap."
)
HEADS = ("attention", "bundle", "n", "accuracy", "interval", "difference", "interval", "verdict", "recomputed")
BUNDLES = ("bundle", "study", "content", "runs", "recomputed", "plan", "baseline", "margin", "pairing")


@dataclass(frozen=True)
class Entrant:
    """A bundle that was examined."""

    file: str
    digest: str = ""
    comparison: Comparison | None = None
    """None where it is not what it says."""
    plan: str = ""
    """How its plan stands."""
    recounted: frozenset[str] = field(default_factory=frozenset)
    """Runs whose scores their predictions gave again."""
    refused: tuple[str, ...] = ()
    """Why it is not ranked."""


class Board(NamedTuple):
    """The rows of a cell, whichever bundles they come from."""

    title: str
    rows: list[tuple[str, ...]]


def boards(entrants: Sequence[Entrant]) -> list[Board]:
    """A table for each cell: runs are in one if they share data, split, backbone and recipe."""
    titles: dict[str, str] = {}
    rows: dict[str, list[tuple[tuple[bool, float, str], tuple[str, ...]]]] = {}
    for entrant, comparison in _ranked(entrants):
        for cell in comparison.cells:
            key = cell_seen(next(record for arm in cell.arms for record in arm.records), comparison.plan)
            titles.setdefault(key, f"{key}: {cell.about}")
            for arm in cell.arms:
                rows.setdefault(key, []).append(_row(entrant, cell, arm))
    return [Board(titles[key], [row for _, row in sorted(rows[key])]) for key in sorted(rows)]


def bundles(entrants: Sequence[Entrant]) -> list[tuple[str, ...]]:
    """A row for each bundle that is ranked."""
    found: list[tuple[str, ...]] = []
    for entrant, comparison in _ranked(entrants):
        plan = comparison.plan
        runs = [record.id for cell in comparison.cells for arm in cell.arms for record in arm.records]
        again = f"{sum(run in entrant.recounted for run in runs)} of {len(runs)}"
        about = (str(len(runs)), again, entrant.plan, plan.baseline, f"{plan.margin:g}", plan.pairing)
        found.append((entrant.file, comparison.name, entrant.digest, *about))
    return found


def refusals(entrants: Sequence[Entrant]) -> list[tuple[str, str]]:
    """Bundles that are not ranked, each with why; of equal contents the first is."""
    first: dict[str, str] = {}
    found = [(entrant.file, reason) for entrant in entrants for reason in entrant.refused]
    for entrant in entrants:
        if not entrant.refused and first.setdefault(entrant.digest, entrant.file) != entrant.file:
            found.append((entrant.file, f"holds the same as {first[entrant.digest]}"))
    return sorted(found)


def markdown(entrants: Sequence[Entrant]) -> str:
    """The whole page as Markdown."""
    parts = [f"# {TITLE}", "## Bundles", *_table(BUNDLES, bundles(entrants))]
    for board in boards(entrants):
        parts += [f"## {plain(board.title)}", *_table(HEADS, board.rows)]
    parts.append(CAPTION)
    if refused := refusals(entrants):
        parts += ["## Not ranked", "\n".join(f"* {plain(file)}: {plain(reason)}" for file, reason in refused)]
    return "\n\n".join(parts) + "\n"


def write(entrants: Sequence[Entrant], folder: Path) -> tuple[Path, Path]:
    """Write `index.html`, one page that needs nothing else, and `leaderboard.md`.

    Raises:
        StoreProblem: the folder cannot be written.
    """
    html = rendered(
        "leaderboard.html",
        [],
        name=TITLE,
        caption=CAPTION,
        bundles=(BUNDLES, bundles(entrants)),
        heads=HEADS,
        boards=boards(entrants),
        refused=refusals(entrants),
    )
    files = folder / "index.html", folder / "leaderboard.md"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, (html, markdown(entrants)), strict=True):
            file.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise StoreProblem(f"the leaderboard cannot be written to {folder}/: {problem.strerror or problem}") from None
    return files


def _ranked(entrants: Sequence[Entrant]) -> list[tuple[Entrant, Comparison]]:
    """Those that are what they say, each content once."""
    found: dict[str, tuple[Entrant, Comparison]] = {}
    for entrant in entrants:
        if entrant.comparison is not None and not entrant.refused:
            found.setdefault(entrant.digest, (entrant, entrant.comparison))
    return list(found.values())


def _row(entrant: Entrant, cell: Cell, arm: Arm) -> tuple[tuple[bool, float, str], tuple[str, ...]]:
    """What a row is sorted by, and its texts."""
    name, n, score, here, _, gap, apart, *_, verdict = (entry.text for entry in entries(arm))
    told = sum(record.id in entrant.recounted for record in arm.records)
    against = "baseline" if arm is cell.baseline else verdict
    texts = (name, entrant.file, n, score, here, gap, apart, against, f"{told} of {len(arm.records)}")
    return (told < len(arm.records), -arm.score.mean, entrant.file), texts


def _table(heads: Collection[str], rows: Collection[Iterable[str]]) -> list[str]:
    lines = markdown_table(heads, (map(plain, row) for row in rows), "l" * len(heads))
    return ["\n".join(lines)] if rows else ["none"]
