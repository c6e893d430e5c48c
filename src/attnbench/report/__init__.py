"""What is shown: a comparison as a page, tables and figures."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attnbench.analysis.comparison import Comparison
from attnbench.errors import StoreProblem
from attnbench.report.agreement import agreement
from attnbench.report.evidence import Quality, quality
from attnbench.report.figures import Figure, figures
from attnbench.report.latex import bibliography, table
from attnbench.report.page import page
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
        pictures = _pictures([figure for own in drawn for figure in own], folder / "figures")
    except OSError as problem:
        raise StoreProblem(f"the report cannot be written to {folder}/: {problem.strerror or problem}") from None
    return [*(folder / name for name in texts), *tables, *pictures]


def _evidence(comparison: Comparison) -> tuple[list[list[Quality]], list[list[Figure]]]:
    """What stands behind the verdicts, and its figures, cell by cell."""
    qualities = [quality(cell) for cell in comparison.cells]
    numbered = enumerate(zip(comparison.cells, qualities, strict=True), start=1)
    return qualities, [figures(cell, own, place) for place, (cell, own) in numbered]


def _pictures(drawn: Sequence[Figure], folder: Path) -> list[Path]:
    """Each figure as SVG and PNG; those of an earlier report go."""
    from attnbench.report.charts import static

    folder.mkdir(exist_ok=True)
    for old in [*folder.glob("[0-9][0-9]-*.svg"), *folder.glob("[0-9][0-9]-*.png")]:
        old.unlink()
    files = []
    with ThreadPoolExecutor(2) as pool:  # the converter works outside of Python
        made = list(pool.map(static, [figure.chart for figure in drawn]))
    for figure, (svg, png) in zip(drawn, made, strict=True):
        files += [folder / f"{figure.name}.svg", folder / f"{figure.name}.png"]
        files[-2].write_text(svg, encoding="utf-8")
        files[-1].write_bytes(png)
    return files
