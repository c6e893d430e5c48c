"""What the docs show of results/speed/speed.json, which `make bench` writes, and of the searches for recipes."""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "results" / "speed" / "speed.json"


def speed() -> str:
    """Each goal with its figure, and what it was measured on."""
    found = _found()
    packages = ", ".join(f"{name} {found['packages'][name]}" for name in ("torch", "torchvision", "numpy"))
    lines = [
        f"Measured on {found['date']}: {found['cpu']}, {found['cores']} cores, Python {found['python']}, {packages}.",
        "",
    ]
    lines += ["| | measured | goal | median | quartiles | rounds | |", "|:--|:--|--:|--:|:--|--:|:--|"]
    for row in found["rows"]:
        lines.append(_line(row))
    return "\n".join(lines) + "\n"


def where() -> str:
    """Milliseconds of a step by kind of operation."""
    rows = _found()["where"]
    kinds = [name for name in rows[0] if name != "what"]
    lines = [f"| ResNet-20, batch 32 | {' | '.join(kinds)} | all |", f"|:--|{'--:|' * (len(kinds) + 1)}"]
    for row in rows:
        values = [row[kind] for kind in kinds]
        lines.append(f"| {row['what']} | {' | '.join(f'{value:.1f}' for value in (*values, sum(values)))} |")
    return "\n".join(lines) + "\n"


def search(name: str) -> str:
    """What was tried on validation images, in the order in which it was."""
    lines = ["| tried | CPU seconds | validation | training |", "|:--|--:|--:|--:|"]
    for text in (FILE.parent.parent / "search" / f"{name}.jsonl").read_text().splitlines():
        one = json.loads(text)
        fields = ", ".join(f"{field} {value}" for field, value in one["given"].items())
        found = (
            f"{one['diverged']} |" if "diverged" in one else f"{one['accuracy']:.2f} % | {one['train_accuracy']:.2f} %"
        )
        lines.append(f"| {fields} | {one.get('cpu_seconds', 0):.0f} | {found} |")
    return "\n".join(lines) + "\n"


def _found() -> Any:
    return json.loads(FILE.read_text())


def _line(row: dict[str, Any]) -> str:
    goal = f"{'>=' if row['more'] else '<='} {row['wanted']:g}" if row["wanted"] is not None else ""
    mark = row["outcome"].replace("missed", "**missed**")
    spread = f"{row['low']:.3f} to {row['high']:.3f}" if row["rounds"] > 1 else "exact"
    return f"| {row['goal']} | {row['what']} | {goal} | {row['value']:.3f} | {spread} | {row['rounds']} | {mark} |"
