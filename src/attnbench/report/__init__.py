"""What is shown: a comparison as a page, tables and figures."""

from pathlib import Path

from attnbench.analysis.comparison import Comparison
from attnbench.errors import StoreProblem
from attnbench.report.across import across_figures
from attnbench.report.agreement import agreement
from attnbench.report.evidence import Quality, quality
from attnbench.report.figures import Figure, figures
from attnbench.report.latex import bibliography, table
from attnbench.report.page import page
from attnbench.report.pictures import pictures
from attnbench.report.tables import markdown, write_csv

__all__ = ["agreement", "html", "markdown", "write"]


def html(comparison: Comparison) -> str:
    """The page alone."""
    qualities, drawn = _evidence(comparison)
    return page(comparison, qualities, drawn)


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `index.html`, the tables as Markdown, LaTeX and CSV, the papers, and `figures/`; returns their paths.

    Raises:
        StoreProblem: the folder cannot be written, or predictions cannot be read.
    """
    qualities, drawn = _evidence(comparison)
    texts = {
        "index.html": page(comparison, qualities, drawn),
        "table.md": markdown(comparison),
        "table.tex": table(comparison),
        **({"mechanisms.bib": bibliography(comparison)} if comparison.recorded else {}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        tables = write_csv(comparison, qualities, folder)
        every = [figure for own in (*drawn, across_figures(comparison)) for figure in own]
        drawings = pictures(every, folder / "figures")
    except OSError as problem:
        raise StoreProblem(f"the report cannot be written to {folder}/: {problem.strerror or problem}") from None
    return [*(folder / name for name in texts), *tables, *drawings]


def _evidence(comparison: Comparison) -> tuple[list[list[Quality]], list[list[Figure]]]:
    """What stands behind the verdicts, and its figures, cell by cell."""
    qualities = [quality(cell) for cell in comparison.cells]
    numbered = enumerate(zip(comparison.cells, qualities, strict=True), start=1)
    return qualities, [figures(cell, own, place) for place, (cell, own) in numbered]
