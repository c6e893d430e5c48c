"""What is shown: a comparison as a page, tables and figures."""

import datetime
from dataclasses import replace
from pathlib import Path

from attnbench.analysis.comparison import Comparison
from attnbench.errors import StoreProblem
from attnbench.report.across import across_figures
from attnbench.report.agreement import agreement
from attnbench.report.answers import answers
from attnbench.report.evidence import Quality, quality
from attnbench.report.figures import Figure, figures
from attnbench.report.latex import bibliography, table
from attnbench.report.matrix import arranged
from attnbench.report.page import page
from attnbench.report.pictures import pictures
from attnbench.report.tables import markdown, write_csv

__all__ = ["agreement", "html", "markdown", "write"]


def html(comparison: Comparison) -> str:
    """The page alone."""
    shown = arranged(comparison)
    return page(shown, *_evidence(shown))


def write(comparison: Comparison, folder: Path, data_dir: str | Path | None = None) -> list[Path]:
    """Write `index.html`, the tables as Markdown, LaTeX and CSV, the papers, and `figures/`; returns their paths.

    Args:
        data_dir: where test images may lie that the page shows; None shows none.

    Raises:
        StoreProblem: the folder cannot be written, or predictions cannot be read.
    """
    shown = arranged(comparison)
    qualities, drawn = _evidence(shown)
    texts = {
        "index.html": page(shown, qualities, drawn, datetime.date.today(), data_dir),
        "table.md": markdown(comparison),
        "table.tex": table(comparison),
        **({"mechanisms.bib": bibliography(comparison)} if comparison.recorded else {}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        tables = write_csv(shown, qualities, folder)
        every = [figure for own in (*drawn, across_figures(shown)) for figure in own]
        drawings = pictures(every, folder / "figures")
    except OSError as problem:
        raise StoreProblem(f"the report cannot be written to {folder}/: {problem.strerror or problem}") from None
    return [*(folder / name for name in texts), *tables, *drawings]


def _evidence(comparison: Comparison) -> tuple[list[list[Quality]], list[list[Figure]]]:
    """What stands behind the verdicts, and its figures, cell by cell; a figure's name begins with its cell's number."""
    qualities, drawn = [quality(cell) for cell in comparison.cells], []
    for place, (cell, own) in enumerate(zip(comparison.cells, qualities, strict=True), start=1):
        made = [*figures(cell), *answers(cell, own)]
        drawn.append([replace(figure, name=f"{place:02d}-{figure.name}") for figure in made])
    return qualities, drawn
