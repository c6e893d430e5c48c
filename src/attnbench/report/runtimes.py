"""What `attnbench profile --runtime` measured, as lines and tables: read from its file of lines, without torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnbench.console import printable
from attnbench.files import whole_lines
from attnbench.report.markup import markdown_table

Line = Mapping[str, Any]
FILE = "runtimes.jsonl"
CAPTION = (
    "Backbone {backbone}, {image_size} px, {threads} thread(s), {rounds} rounds, {cpu}, {versions}. In each round "
    "every network ran once in every runtime; ratios are to the plain network (none) in the same round, runtime and "
    "precision: medians with 95 % intervals. p50 and p95 in milliseconds, between order statistics that hold the true "
    "quantile with 95 %, whatever its law."
)
INT8 = " INT8 was calibrated on training images of {int8}; agree: test images that get the class of float32, untrained."


def known(folder: Path, on: Mapping[str, Any]) -> dict[str, Line]:
    """Mechanism -> its line, of those that a folder holds of the same bench; the plain network first."""
    return _alike(whole_lines(folder / FILE), on)


def newest(file: Path) -> list[Line]:
    """The lines measured on what the last line of a file was, by mechanism; empty where there is no file."""
    lines = whole_lines(file)
    return [*_alike(lines, lines[-1]["on"]).values()] if lines else []


def line(row: Line) -> str:
    """A mechanism in one line of the console for each batch size, and one for each refusal."""
    cells = [cell for cell in row["cells"] if "ratio" in cell]
    said = []
    for size in dict.fromkeys(cell["batch_size"] for cell in cells):
        each = [f"{_name(cell)} {_ratio(cell)}" for cell in cells if cell["batch_size"] == size]
        said.append(f"{row['attention']:16} batch {size:<4} {'  '.join(each)}")
    return "\n".join([*said, *refusals([row])])


def refusals(rows: Sequence[Line]) -> list[str]:
    """A sentence for each mechanism and reason: who refuses it, with the operator; or that it finds no place."""
    where: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for cell in (each for each in row["cells"] if "refused" in each):
            where.setdefault((row["attention"], cell["refused"]), []).append(_name(cell))
    refused = [f"{name} in {', '.join(places)}: {printable(why)}" for (name, why), places in where.items()]
    return [*refused, *_homeless(rows)]


def _homeless(rows: Sequence[Line]) -> list[str]:
    """A sentence for each reason why mechanisms find no place in the backbone."""
    why: dict[str, list[str]] = {}
    for row in (each for each in rows if "no_place" in each):
        why.setdefault(row["no_place"].removeprefix(f"{row['attention']} "), []).append(row["attention"])
    return [printable(f"{', '.join(names)}: {reason}") for reason, names in why.items()]


def ratios(rows: Sequence[Line]) -> str:
    """A table for each batch size: a mechanism a row, a runtime a column, ratios to none; then what is refused."""
    columns = _columns(rows)
    blocks = []
    for size in rows[0]["on"]["batch_sizes"]:
        cells = ([row["attention"], *(_of(row, size, name) for name in columns)] for row in rows)
        blocks.append("\n".join(markdown_table([f"batch {size}", *columns], cells)))
    blocks.append("\n".join(f"* {sentence}" for sentence in refusals(rows)))
    return "\n\n".join(filter(None, blocks)) + "\n"


def quantiles(rows: Sequence[Line]) -> str:
    """A table of p50 and p95 with their intervals, a row for each mechanism, runtime and batch size."""
    heads = ["attention", "runtime", "batch", "p50, ms", "p95, ms", "to the network itself"]
    cells = [
        (row["attention"], _name(cell), f"{cell['batch_size']:,}", *_measured(cell))
        for row in rows
        for cell in row["cells"]
        if "ratio" in cell
    ]
    return "\n".join(markdown_table(heads, cells, "llrrrl")) + "\n"


def caption(rows: Sequence[Line]) -> str:
    """What they were measured on."""
    on = rows[0]["on"]
    versions = ", ".join(f"{name} {number}" for name, number in on["versions"].items())
    return (CAPTION + (INT8 if on["int8"] else "")).format_map({**on, "versions": versions})


def write(folder: Path, on: Mapping[str, Any]) -> list[Path]:
    """Write `runtimes.md` of what a folder's `runtimes.jsonl` holds of one bench; returns both."""
    file, rows = folder / "runtimes.md", [*known(folder, on).values()]
    file.write_text("\n".join([ratios(rows), quantiles(rows), caption(rows), ""]), encoding="utf-8")
    return [folder / FILE, file]


def _alike(lines: Sequence[Line], on: Mapping[str, Any]) -> dict[str, Line]:
    found = {line["attention"]: line for line in lines if line.get("on") == on}
    return {name: found[name] for name in sorted(found, key=lambda name: (name != "none", name))}


def _columns(rows: Sequence[Line]) -> list[str]:
    """Runtimes in the order in which they were asked for, then those in INT8."""
    found = {_name(cell): cell["precision"] for row in rows for cell in row["cells"]}
    asked = rows[0]["on"]["runtimes"]
    return sorted(found, key=lambda name: (found[name], asked.index(name.split()[0])))


def _name(cell: Mapping[str, Any]) -> str:
    return f"{cell['runtime']} INT8" if cell["precision"] == "int8" else str(cell["runtime"])


def _of(row: Line, size: int, name: str) -> str:
    if "no_place" in row:
        return "no place"
    for cell in row["cells"]:
        if _name(cell) == name and ("refused" in cell or cell["batch_size"] == size):
            return "refused" if "refused" in cell else _ratio(cell)
    return ""


def _ratio(cell: Mapping[str, Any]) -> str:
    return f"x{_span(cell['ratio'])}"


def _span(values: Sequence[float | None], scale: float = 1) -> str:
    """A value and its interval, to three digits at least."""
    middle, low, high = (
        None if value is None else f"{scale * value:.{2 if scale * value < 100 else 0}f}" for value in values
    )
    return f"{middle} [{low or '-'}, {high or '-'}]"


def _measured(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    return _span(cell["p50"], 1000), _span(cell["p95"], 1000), _parity(cell)


def _parity(cell: Mapping[str, Any]) -> str:
    return f"agrees on {cell['agree']:.1f} %" if "agree" in cell else f"{cell['difference']:.1e}"
