"""What docs/reliability.md shows of results/reliability/, which benchmarks/faults.py and benchmarks/fuzz.py write."""

import json

from attnbench.report.markup import markdown_table
from studies import ROOT

FOLDER = ROOT / "results" / "reliability"


def faults() -> str:
    """How many kills were survived, of whom and at what, and what was left."""
    found = json.loads((FOLDER / "faults.json").read_text())
    who, where = (_listed(found[name]) for name in ("targets", "moments"))
    rows = [
        ("processes killed while alive", f"{found['kills']:,}, at {found['strikes']:,} moments ({who})"),
        ("what the killed children were at", where),
        ("runs completed in spite of it", f"{found['runs']:,}, in {found['rounds']:,} studies of four"),
        ("taken up again from a checkpoint", f"{found['resumed']:,} times"),
        ("runs with the bits of an undisturbed study", f"{found['identical']:,} of {found['runs']:,}"),
        ("records, journals, tracking, left-over processes or checkpoints not as they should be", len(found["wrong"])),
    ]
    machine, seed, minutes = found["environment"], found["seed"], found["seconds"] / 60
    on = f"{machine['cpu']}, {machine['cores']} cores, torch {machine['packages']['torch']}"
    table = markdown_table(["", ""], rows, "ll")
    return "\n".join([f"Seed {seed}, {on}, {minutes:,.0f} minutes.", "", *table]) + "\n"


def fuzz() -> str:
    """Each reader with its inputs and what became of them, and the sum."""
    found = json.loads((FOLDER / "fuzz.json").read_text())
    rows = found["readers"]
    inputs = sum(row["inputs"] for row in rows.values())
    dates = sorted({row["date"] for row in rows.values()})
    said = (
        f"{inputs:,} inputs on {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, Python {found['python']}, "
        f"hypothesis {found['hypothesis']}: no other outcome than a value or a message, none later than "
        f"{found['seconds_allowed']} seconds."
    )
    cells = [
        [name, *(f"{row.get(key, 0):,}" for key in ("inputs", "value", "message")), f"{row['slowest']:,} ms"]
        for name, row in rows.items()
    ]
    heads = ["reader", "inputs", "gave a value", "gave a message", "slowest"]
    return "\n".join([said, "", *markdown_table(heads, cells)]) + "\n"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {number:,}" for what, number in counts.items())
