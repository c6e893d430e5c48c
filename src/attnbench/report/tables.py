"""The comparison as Markdown and CSV."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from attnbench.comparison import Arm, Cell, Comparison
from attnbench.errors import StoreProblem

CAPTION = (
    "Test accuracy in percent: mean over seeds with Student's 95 % interval. Difference to `{baseline}` in percentage "
    "points with Welch's 95 % interval, and p of the exact two-sample permutation test (each arm on its own). "
    "Estimand: the expected accuracy over seeds on this very test set."
)


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `table.md`, `cells.csv` and `runs.csv`; returns their paths.

    Raises:
        StoreProblem: the folder cannot be written.
    """
    files = [folder / "table.md", folder / "cells.csv", folder / "runs.csv"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files[0].write_text(markdown(comparison))
        _write_csv(files[1], _cell_rows(comparison))
        _write_csv(files[2], _run_rows(comparison))
    except OSError as problem:
        raise StoreProblem(f"the report cannot be written to {folder}/: {problem.strerror or problem}") from None
    return files


def markdown(comparison: Comparison) -> str:
    """The whole report as one page."""
    parts = [f"# {_plain(comparison.name)}\n", tables(comparison)]
    if comparison.missing:
        parts.append(f"**{comparison.missing} runs of this study are not done yet.**\n")
    parts += [f"**Warning:** {_plain(warning)}.\n" for warning in comparison.warnings]
    return "\n".join(parts)


def tables(comparison: Comparison) -> str:
    """A table per cell, with a caption that says what varied, which estimand and n."""
    lines = [line for cell in comparison.cells for line in _table(cell, comparison.baseline)]
    return "\n".join([*lines, CAPTION.format(baseline=_plain(comparison.baseline)), ""])


def signed(value: float) -> str:
    """A number with its sign, two decimals; `-` where there is none."""
    return "-" if math.isnan(value) else f"{value:+.2f}"


def p_text(value: float) -> str:
    """A p value to three decimals; `-` where there is none."""
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float, high: float, plus: bool = False) -> str:
    """`[low, high]`; `-` where one seed cannot tell."""
    if math.isnan(low):
        return "-"
    return f"[{low:+.2f}, {high:+.2f}]" if plus else f"[{low:.2f}, {high:.2f}]"


def _table(cell: Cell, baseline: str) -> list[str]:
    any_record = cell.arms[0].records[0]
    spec = any_record.spec
    about = (
        f"{spec['epochs']} epochs, recipe {any_record.recipe or 'as given'}, {any_record.test['images']:,} test images"
    )
    limited = [
        f"{name} {spec[name]}"
        for name in ("train_fraction", "train_limit", "test_limit")
        if spec[name] not in (None, 1)
    ]
    lines = [
        f"**{_plain(cell.name)}**: {_plain(', '.join([about, *limited]))}.",
        "",
        f"| attention | n | accuracy | 95 % interval | to {_plain(baseline)} | 95 % interval | p | parameters |",
        "|:--|--:|--:|:--|--:|:--|--:|--:|",
    ]
    return [*lines, *(f"| {' | '.join(_row(arm))} |" for arm in cell.arms), ""]


def _row(arm: Arm) -> list[str]:
    accuracy, gap = arm.accuracy, arm.difference
    compared = [signed(gap.mean), interval(gap.low, gap.high, plus=True), p_text(gap.p_value)] if gap else ["", "", ""]
    return [
        _plain(arm.name),
        str(accuracy.n),
        f"{accuracy.mean:.2f}",
        interval(accuracy.low, accuracy.high),
        *compared,
        f"{arm.records[0].cost['parameters']:,}",
    ]


def _cell_rows(comparison: Comparison) -> Iterable[dict[str, object]]:
    for cell in comparison.cells:
        for arm in cell.arms:
            gap = arm.difference
            yield {
                "cell": cell.name,
                "attention": arm.name,
                "n": arm.accuracy.n,
                "accuracy": arm.accuracy.mean,
                "accuracy_low": arm.accuracy.low,
                "accuracy_high": arm.accuracy.high,
                "difference": gap.mean if gap else "",
                "difference_low": gap.low if gap else "",
                "difference_high": gap.high if gap else "",
                "p": gap.p_value if gap else "",
            }


def _run_rows(comparison: Comparison) -> Iterable[dict[str, object]]:
    for cell in comparison.cells:
        for arm in cell.arms:
            for record in arm.records:
                yield {
                    "id": record.id,
                    "cell": cell.name,
                    "attention": arm.name,
                    "seed": record.spec["seed"],
                    "accuracy": record.accuracy,
                    "parameters": record.cost["parameters"],
                    "macs": record.cost["macs"],
                    "train_seconds": record.timings.get("train", ""),
                    "weights_sha256": record.weights_sha256,
                }


def _write_csv(file: Path, rows: Iterable[dict[str, object]]) -> None:
    listed = list(rows)
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, list(listed[0]) if listed else ["cell"])
        writer.writeheader()
        writer.writerows({name: _inert(value) for name, value in row.items()} for row in listed)


def _inert(value: object) -> object:
    """A text that a spreadsheet would take for a formula, made a text again."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _plain(text: str) -> str:
    """Text that cannot break out of a Markdown table or become HTML."""
    for special in "\\|[]":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.replace("<", "&lt;").splitlines())
