"""What docs/reliability.md shows of results/reliability/fuzz.json, which benchmarks/fuzz.py writes."""

import json

from studies import ROOT

FILE = ROOT / "results" / "reliability" / "fuzz.json"


def fuzz() -> str:
    """Each reader with its inputs and what became of them, and the sum."""
    found = json.loads(FILE.read_text())
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
