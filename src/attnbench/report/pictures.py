"""Figures as files, to be looked at without a browser."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attnbench.report.figures import Figure


def pictures(drawn: Sequence[Figure], folder: Path) -> list[Path]:
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
