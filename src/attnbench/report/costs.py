"""What `attnbench profile` measured, as lines, a table and a figure: read from its CSV file, without torch."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbench.report.markup import markdown_table

Row = Mapping[str, Any]
CAPTION = (
    "Backbone {backbone}, {image_size} px, batch {batch_size}, {threads} thread(s) on {device}, torch {torch}. Ratios "
    "are to the plain network (none). Counted: parameters, multiply-accumulates (MACs), activations (bytes that the "
    "forward pass keeps for the backward pass) and peak memory (bytes that one training step allocates beyond weights "
    "and gradients). Measured: times, medians over rounds in which the plain network and the mechanism took turns, "
    "with 95 % intervals of the median ratio."
)
_COUNTS = {"parameters": "parameters", "macs": "MACs", "activations": "activations", "peak_memory": "peak memory"}
_TIMES = ("forward", "training")


def line(row: Row) -> str:
    """A profile in one line of the console."""
    counts = [f"{head} x{float(row[f'{name}_ratio']):.3f}" for name, head in _COUNTS.items()]
    times = [f"{name} {_time(row, name)}" for name in _TIMES]
    return "  ".join([f"{row['attention']:16}", *counts, *times])


def read(file: Path) -> list[dict[str, str]]:
    """The rows of a profile, cheapest training first."""
    with file.open(newline="", encoding="utf-8") as source:
        return sorted(csv.DictReader(source), key=lambda row: float(row["training_ratio"]))


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, with what it was measured on below it."""
    heads = ["attention", *_COUNTS.values(), *_TIMES]
    cells = []
    for row in rows:
        counts = [f"x{float(row[f'{name}_ratio']):.3f}" for name in _COUNTS]
        cells.append([row["attention"], *counts, *(_time(row, name) for name in _TIMES)])
    return "\n".join([*markdown_table(heads, cells), "", CAPTION.format_map(rows[0]), ""])


def chart(rows: Sequence[Row]) -> dict[str, Any]:
    """Training times relative to the plain network, with their intervals, as a Vega-Lite specification."""
    from attnbench.report.charts import intervals

    spans = {"mean": "training_ratio", "low": "training_low", "high": "training_high"}
    drawn: list[dict[str, Any]] = [
        {"arm": row["attention"], **{key: float(row[name]) for key, name in spans.items()}} for row in rows
    ]
    order = [str(row["attention"]) for row in rows]
    return intervals(drawn, "arm", order, "training time, ratio to none", log=True)


def write(folder: Path) -> list[Path]:
    """Write `profile.md`, `profile.svg` and `profile.pdf` beside a folder's `profile.csv`; returns all four."""
    from attnbench.report.charts import static

    rows = read(folder / "profile.csv")
    svg, pdf = static(chart(rows))
    files = [folder / f"profile.{ending}" for ending in ("csv", "md", "svg", "pdf")]
    files[1].write_text(table(rows), encoding="utf-8")
    files[2].write_text(svg, encoding="utf-8")
    files[3].write_bytes(pdf)
    return files


def _time(row: Row, name: str) -> str:
    low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
    return f"x{float(row[f'{name}_ratio']):.2f} [{low:.2f}, {high:.2f}]"
