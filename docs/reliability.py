"""What docs/reliability.md shows of results/reliability/, which benchmarks/faults.py and benchmarks/fuzz.py write."""

import json

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
    lines = [f"Seed {seed}, {on}, {minutes:,.0f} minutes.", "", "| | |", "|:--|:--|"]
    return "\n".join([*lines, *(f"| {what} | {figure} |" for what, figure in rows)]) + "\n"


def fuzz() -> str:
    """Each reader with its inputs and what became of them, and the sum."""
    found = json.loads((FOLDER / "fuzz.json").read_text())
    rows = found["readers"]
    inputs = sum(row["inputs"] for row in rows.values())
    dates = sorted({row["date"] for row in rows.values()})
    lines = [
        f"{inputs:,} inputs on {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, Python {found['python']}, "
        f"hypothesis {found['hypothesis']}: no other outcome than a value or a message, none later than "
        f"{found['seconds_allowed']} seconds.",
        "",
        "| reader | inputs | gave a value | gave a message | slowest |",
        "|:--|--:|--:|--:|--:|",
    ]
    for name, row in rows.items():
        value, message = row.get("value", 0), row.get("message", 0)
        lines.append(f"| {name} | {row['inputs']:,} | {value:,} | {message:,} | {row['slowest']:,} ms |")
    return "\n".join(lines) + "\n"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {number:,}" for what, number in counts.items())
