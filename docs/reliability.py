"""What the docs show of results/reliability/faults.json, which `benchmarks/faults.py --write` makes."""

import json

from studies import ROOT

FILE = ROOT / "results" / "reliability" / "faults.json"


def faults() -> str:
    """How many kills were survived, of whom and at what, and what was left."""
    found = json.loads(FILE.read_text())
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


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {number:,}" for what, number in counts.items())
