"""Pictures of a table of simulated studies that stands in docs/statistics.md."""

import re
from pathlib import Path

from attnbench.report.charts import curves, static

STATISTICS = Path(__file__).parent / "statistics.md"
ACROSS = "true difference, in standard deviations between seeds"
PICTURES = {
    "looks-decided.svg": ("decided", "studies that decide (%)"),
    "looks-seeds.svg": ("mean seeds", "seeds an arm"),
}
"""File -> the column of the table *Decided*, and what it counts."""
FAMILY = "1"
"""How many arms the studies of the pictures compare with the baseline."""


def pictures() -> dict[str, str]:
    """How often a difference is decided, and at how many seeds, for each plan of looks: file -> SVG."""
    rows = [row for row in _rows("Decided") if row["family"] == FAMILY]
    if not rows:  # the simulation has not been run yet
        return {}
    order = list(dict.fromkeys(row["looks"] for row in rows))
    found = {}
    for file, (column, up) in PICTURES.items():
        points = [
            {"x": float(row["deviations apart"]), "y": float(row[column].split()[0]), "curve": row["looks"]}
            for row in rows
        ]
        found[file] = static(curves(points, order, ACROSS, up))[0]
    return found


def _rows(table: str) -> list[dict[str, str]]:
    """The rows of a table by their heads."""
    _, _, after = STATISTICS.read_text().partition(f"**{table}**")
    lines = re.findall(r"^\|.*\|$", after.split("\n\n")[1] if after else "", re.MULTILINE)
    split = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(split[0], row, strict=True)) for row in split[2:]]
