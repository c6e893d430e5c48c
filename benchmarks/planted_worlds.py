"""How often `attnbench choose` advises rightly: choices among thirty mechanisms whose truth is planted.

    python benchmarks/planted_worlds.py --quick           # minutes; 300 choices a world
    python benchmarks/planted_worlds.py --write           # 2,000 choices a world, table into docs/statistics.md

Rungs, looks, halving, verdicts, the best set and the advice are those of the command; only training is replaced, by
drawing scores. Exit code 1 where something that must hold does not.
"""

import argparse
import functools
import multiprocessing
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.analysis.budget import outlined
from attnbench.analysis.cells import Cell, cell_of
from attnbench.analysis.choosing import answer, halved, promised
from attnbench.analysis.plan import Plan
from attnbench.analysis.sample import Sample
from attnbench.catalogue.registry import ATTENTION
from attnbench.report.markup import markdown_table
from attnbench.seeding import stream
from attnbench.spec.contest import FRESH, Contest, Rung

PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
FULL, QUICK, ARMS = 2_000, 300, 30
LEVEL, SPREAD = 85.0, 0.5
"""Accuracy of the baseline in percent, and standard deviation between seeds at full length, in points."""
SHORT, OWN = 0.8, 0.25
"""Spread between seeds in a short run; and how far an arm's standing on validation images, in runs that are shorter,
lies from its truth for reasons of its own (standard deviation over arms)."""
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class World:
    """The gains of the first arms over the baseline in points; all other arms have none."""

    name: str
    gains: tuple[float, ...] = ()

    @property
    def truth(self) -> np.ndarray:
        """The gain of each arm."""
        return np.array([*self.gains, *[0.0] * (ARMS - len(self.gains))])


WORLDS = (
    World("none better"),
    World("one better by 1 point", (1.0,)),
    World("one better by half a point", (0.5,)),
    World("two equally good, by 1 point", (1.0, 1.0)),
    World("all worse by half a point", tuple([-0.5] * ARMS)),
)


@functools.cache
def contest() -> Contest:
    """A choice among thirty mechanisms that pays for 12 seeds of the three that are confirmed."""
    names = [entry.name for entry in ATTENTION if not entry.card.control][:ARMS]
    return Contest(
        name="planted",
        base={"dataset": "digits", "epochs": 9},
        grid={"attention": [*names, "none"]},
        budget={"runs": 130},
        margin=1.0,
        screening={"seeds": 2},
    )


def choice(world: World, rng: np.random.Generator) -> tuple[Cell, dict[str, float]]:
    """One choice: the confirmation, and what screening had promised of each arm."""
    asked, truth = contest(), dict(zip(contest().arms, world.truth, strict=True)) | {"none": 0.0}
    lean = {arm: OWN * rng.standard_normal() for arm in truth}
    outline = outlined(asked, asked.arms, lambda arm, rung: 1.0)

    def score(rung: Rung, arms: Sequence[str]) -> dict[str, list[float]]:
        short = rung.epochs < 9
        means = {arm: LEVEL + truth[arm] + lean[arm] for arm in arms}
        spread = SHORT if short else SPREAD
        return {arm: list(means[arm] + spread * rng.standard_normal(rung.seeds)) for arm in arms}

    rounds = halved(asked.arms, "none", outline.rungs, score)
    seeds = tuple(range(FRESH, FRESH + outline.looks[-1]))
    samples = {
        arm: Sample(arm, seeds, LEVEL + truth[arm] + SPREAD * rng.standard_normal(len(seeds)))
        for arm in ("none", *rounds[-1].kept)
    }
    plan = Plan("none", asked.margin, looks=outline.looks)
    return cell_of("planted", samples, plan), promised(rounds, "none")


def outcome(world: World, number: int) -> dict[str, float]:
    """What a choice is counted by."""
    cell, gains = choice(world, np.random.default_rng(stream(0, world.name, number)))
    truth = dict(zip(contest().arms, world.truth, strict=True)) | {"none": 0.0}
    found = answer(cell)
    top = max(truth[arm.name] for arm in cell.arms)
    first = max((arm for arm in cell.arms if arm.contrast), key=lambda arm: gains[arm.name])
    assert first.contrast is not None
    return {
        "some arm advised": float(found.winner is not None),
        "advised though not better": float(found.winner is not None and truth[found.winner.name] <= 0),
        "one of the truly best advised": float(
            found.winner is not None and truth[found.winner.name] == max(truth.values()) > 0
        ),
        "truly best in the best set": float(any(truth[arm.name] == top for arm in found.best)),
        "arms in the best set": float(len(found.best)),
        "promised less truth": gains[first.name] - truth[first.name],
        "confirmed less truth": first.contrast.difference.mean - truth[first.name],
        "seeds of an arm": float(np.mean([len(arm.values) for arm in cell.arms if arm.contrast])),
    }


SHOWN = {
    "some arm advised": "an arm advised (%)",
    "advised though not better": "one that is not better (%)",
    "one of the truly best advised": "a truly best one of thirty (%)",
    "truly best in the best set": "best set holds the best of the confirmed (%)",
    "arms in the best set": "arms in it",
    "promised less truth": "promised less true gain",
    "confirmed less truth": "confirmed less true gain",
    "seeds of an arm": "seeds of an arm",
}
"""What is counted -> the head of its column."""
SHARES = [name for name, head in SHOWN.items() if head.endswith("(%)")]


def table(repetitions: int, workers: int) -> tuple[str, list[str]]:
    """The rates as a Markdown table, and what must hold and does not."""
    rows, broken = [], []
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawned) as pool:
        for world in WORLDS:
            counted = list(pool.map(functools.partial(outcome, world), range(repetitions), chunksize=25))
            cells = [world.name]
            for name in SHOWN:
                values = np.array([each[name] for each in counted]) * (100 if name in SHARES else 1)
                mean, error = float(values.mean()), float(values.std(ddof=1)) / np.sqrt(repetitions)
                cells.append(f"{mean:.1f} ± {error:.1f}" if name in SHARES else f"{mean:.2f} ± {error:.2f}")
                limit = {"advised though not better": (0, 5), "truly best in the best set": (95, 100)}.get(name)
                if limit and not limit[0] - STANDARD_ERRORS * error <= mean <= limit[1] + STANDARD_ERRORS * error:
                    broken.append(f"{world.name}: {name} {cells[-1]}, must lie in {limit[0]} to {limit[1]}")
            rows.append(cells)
            print(*cells, sep="  ", flush=True)
    text = "\n".join(markdown_table(["world", *SHOWN.values()], rows))
    outline = outlined(contest(), contest().arms, lambda arm, rung: 1.0)
    rungs = ", then ".join(f"{rung.arms} arms x {rung.epochs} epochs x {rung.seeds} seeds" for rung in outline.rungs)
    looks = ", ".join(map(str, outline.looks))
    about = (
        f"{repetitions:,} choices a world ± Monte Carlo standard error. Screening: {rungs}; 3 confirmed, looks at "
        f"{looks} seeds. Spread between seeds: 0.5 points. Gains: of the arm that screening liked best, in points."
    )
    return f"{about}\n\n{text}\n", broken


def main() -> None:
    """Run, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the table into docs/statistics.md")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    text, broken = table(QUICK if asked.quick else FULL, asked.jobs)
    print(text)
    if asked.write:
        page = PAGE.read_text(encoding="utf-8")
        block = re.compile(r"(<!-- choosing -->\n).*?(<!-- end -->)", re.DOTALL)
        PAGE.write_text(block.sub(lambda found: f"{found[1]}{text}{found[2]}", page), encoding="utf-8")
    print("\n".join(broken), file=sys.stderr)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
