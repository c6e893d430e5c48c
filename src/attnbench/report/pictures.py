"""Figures as files, to be looked at without a browser."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attnbench.report.figures import Figure

KINDS = "differences|seeds|curves|time|controls|calibration|classes|confusions|statements|each|ranks"
OURS = re.compile(rf"(\d\d|across-\d)-({KINDS})(-(controls|loss|accuracy|\d+))?\.(svg|pdf|png)")
"""Files that a report leaves; earlier versions left PNG in place of PDF."""


def pictures(drawn: Sequence[Figure], folder: Path) -> list[Path]:
    """Each figure as SVG and PDF; those of an earlier report go."""
    from attnbench.report.charts import static

    folder.mkdir(exist_ok=True)
    for old in [file for file in folder.iterdir() if OURS.fullmatch(file.name)]:
        old.unlink()
    files = []
    with ThreadPoolExecutor(2) as pool:  # the converter works outside of Python
        made = list(pool.map(static, [figure.chart for figure in drawn]))
    for figure, (svg, pdf) in zip(drawn, made, strict=True):
        files += [folder / f"{figure.name}.svg", folder / f"{figure.name}.pdf"]
        files[-2].write_text(svg, encoding="utf-8")
        files[-1].write_bytes(pdf)
    return files
