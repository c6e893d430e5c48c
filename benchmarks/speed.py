"""Measure the goals of speed side by side, in CPU seconds of one thread, interleaved: medians of paired ratios.

python benchmarks/speed.py           everything, into results/speed/speed.json, from which docs/performance.md is made
python benchmarks/speed.py --quick   a part of it in a minute; exit code 1 if a ratio is 15 % worse than the file's
                                     and that was measured on this kind of processor
                                     (seconds are not compared: they belong to the machine that took them)
"""

import argparse
import dataclasses
import itertools
import json
import sys
import time
from datetime import date
from pathlib import Path

import commands
import steps
import where
from paired import Row

from attnbench.store.environment import environment

FILE = Path(__file__).parent.parent / "results" / "speed" / "speed.json"
SLACK = 1.15
"""How much worse than the committed figure a ratio may be before --quick fails."""


def main() -> None:
    """Measure, print, and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    began = time.perf_counter()
    rows = []
    for row in itertools.chain(steps.rows(quick), commands.rows(quick)):
        rows.append(row)
        print(line(row), flush=True)
    print(f"{time.perf_counter() - began:.0f} s")
    if quick:
        sys.exit(compared(rows))
    about = {name: environment()[name] for name in ("cpu", "cores", "platform", "python", "packages", "git_commit")}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "date": str(date.today()),
        **about,
        "rows": [{**dataclasses.asdict(row), "outcome": row.outcome} for row in rows],
        "where": [*where.rows()],
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n")


def line(row: Row) -> str:
    """A row for the console."""
    sign = ">=" if row.more else "<="
    found = f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
    goal = f"{sign} {row.wanted:g}" if row.wanted is not None else ""
    return f"{row.goal:3s} {row.what:75s} {goal:8s} {found}  {row.outcome}"


def compared(rows: list[Row]) -> int:
    """Exit code 1 if a ratio is much worse than the one that was committed, on a processor of the same name.

    Another processor has other ratios too: where convolutions take less time, everything around them takes more of it.
    """
    recorded = json.loads(FILE.read_text())
    known = {(row["goal"], row["what"]): row["value"] for row in recorded["rows"]}
    worse = []
    for row in rows:
        was = known.get((row.goal, row.what)) if row.comparable else None
        if was is not None and (was / row.value if row.more else row.value / was) > SLACK:
            worse.append(f"{row.goal} {row.what}: {row.value:.3f}, was {was:.3f}")
    print("\n".join(worse) or f"no figure is more than {SLACK - 1:.0%} worse than in {FILE.name}")
    if (cpu := environment()["cpu"]) != recorded["cpu"]:
        print(f"no error: those were measured on {recorded['cpu']}, these on {cpu}")
        return 0
    return 1 if worse else 0


if __name__ == "__main__":
    main()
