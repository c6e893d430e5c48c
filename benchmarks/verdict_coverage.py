"""How often the intervals and verdicts of `attnbench.compare` are right: simulated studies whose truth is known.

    python benchmarks/verdict_coverage.py --quick           # minutes; 300 studies a setting
    python benchmarks/verdict_coverage.py --write           # 2,000 studies a setting, tables into docs/statistics.md

Exit code 1 where something that must hold does not.
"""

import argparse
import dataclasses
import functools
import multiprocessing
import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from simulated_studies import World, analysed, first, study

from attnbench.analysis.cells import Cell
from attnbench.analysis.power import POWER, can_decide, detectable
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.sequential import Spending
from attnbench.analysis.stats import ALPHA
from attnbench.analysis.verdicts import Contrast
from attnbench.report.markup import markdown_table
from attnbench.seeding import stream

PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
FULL, QUICK = 2_000, 300
STANDARD_ERRORS = 3.0
"""A limit is missed where a share lies beyond it by more than this many Monte Carlo standard errors."""
LEVEL = 75.0
"""Expected accuracy of the baseline, in percent."""
TOLERANCE = {5: 8.0, 8: 4.0, 12: 4.0}
"""By seeds an arm: points by which the share found may lie off the planned power, a t test's, as measured."""
MOST = 60
"""More further seeds than this are not simulated."""
Outcome = dict[str, float]
"""What a study is counted by: yes or no, or a number whose mean is of interest."""
Limits = dict[str, tuple[float, float]]
"""What shares must lie between, in percent."""


REGIMES = {"small": World(0.02, images=3.0), "equal": World(0.16), "large": World(0.45)}
"""By the seeds' part of the error of an arm's mean beside the images' part, at six seeds."""
PAIRED, USUAL = World(0.2), World(0.1)
"""Pairs matter where most of the spread is the seeds'."""


def bootstrapped(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means in percent of 1,000 crossed bootstraps of each arm, the same images for all: arms x 1,000.

    Args:
        right: arms x S x N.
    """
    _, seeds, images = right.shape
    drawn = rng.multinomial(images, np.full(images, 1 / images), 1_000).astype(np.float32) / images
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), (len(right), 1_000)) / seeds
    found: np.ndarray = 100 * (weights * (drawn @ right.transpose(0, 2, 1).astype(np.float32))).sum(2)
    return found


@dataclass(frozen=True)
class Coverage:
    """How often do the 95 % intervals hold the truth, for an arm's accuracy and for a difference?"""

    regime: str
    seeds: int

    def study(self, rng: np.random.Generator) -> Outcome:
        world, levels = REGIMES[self.regime], (LEVEL, LEVEL + 2)
        ability, effects = world.ability_on_new(levels), world.image_effects(2, rng)
        right = world.right(ability, effects, self.seeds, rng)
        one, two = analysed(right, whole=True).arms
        assert two.contrast is not None
        here, draws = world.on_these(ability, effects), bootstrapped(right, rng)
        found = {"seeds : images": world.run_spread(LEVEL) / np.sqrt(self.seeds) / world.image_spread(LEVEL)}
        for what, t, ours, drawn, this, new in (
            ("accuracy", one.score, one.new_images, draws[0], here[0], LEVEL),
            ("difference", two.difference, two.contrast.new_images, draws[1] - draws[0], here[1] - here[0], 2.0),
        ):
            assert t is not None
            assert ours is not None
            low, high = np.percentile(drawn, [2.5, 97.5])
            found[f"{what}: this test set"] = t.low <= this <= t.high
            found[f"{what}: new images"] = ours.low <= new <= ours.high
            found[f"{what}: new images, by t alone"] = t.low <= new <= t.high
            found[f"{what}: new images, by percentiles"] = low <= new <= high
        return found

    def limits(self) -> Limits:
        this = {f"{what}: this test set": (94.0, 96.0) for what in ("accuracy", "difference")}
        new = {f"{what}: new images": (94.0, 100.0) for what in ("accuracy", "difference")}
        return this | new if self.seeds >= 6 else this


def _contrasts(cell: Cell) -> list[Contrast]:
    return [arm.contrast for arm in cell.arms if arm.contrast is not None]


@dataclass(frozen=True)
class Errors:
    """How often is a study of eight seeds an arm wrong about any of its arms?"""

    plan: Pairing
    arms: int
    rho: float

    def study(self, rng: np.random.Generator) -> Outcome:
        world, apart = dataclasses.replace(PAIRED, rho=self.rho), 2 * PAIRED.run_spread(LEVEL)
        same = _contrasts(analysed(study(world, [LEVEL] * (self.arms + 1), 8, rng), pairing=self.plan))
        found = {
            "measured r": float(np.mean([each.correlation.r for each in same])),
            "better or worse, all equal": any(each.verdict.kind in ("better", "worse") for each in same),
        }
        if can_decide(8, 8, self.arms, self.plan):  # else all are undecided, and that is slow
            right = study(world, [LEVEL, *[LEVEL + apart] * self.arms], 8, rng)
            moved = _contrasts(analysed(right, apart, self.plan))
            found["equivalent, all the margin apart"] = any(each.verdict.within_margin for each in moved)
        return found

    def limits(self) -> Limits:
        promised = self.plan == "paired" or self.rho >= 0
        names = ("better or worse, all equal", "equivalent, all the margin apart")
        return dict.fromkeys(names, (0.0, 100 * ALPHA)) if promised else {}


@functools.cache
def planned(seeds: int, family: int) -> tuple[float, float]:
    """The difference that a plan calls detectable, in standard deviations between seeds and in points."""
    level = ALPHA * float(Spending.open([seeds]).parts[-1])  # of a first look
    size, gap = detectable(seeds, seeds, family, level=level), 0.0
    for _ in range(20):  # the better arm's spread is a little smaller
        gap = size * float(np.hypot(USUAL.run_spread(LEVEL), USUAL.run_spread(LEVEL + gap))) / np.sqrt(2)
    return size, gap


@dataclass(frozen=True)
class Power:
    """How often is an arm found better whose difference is the detectable one, beside others that have none?"""

    seeds: int
    arms: int

    def study(self, rng: np.random.Generator) -> Outcome:
        size, gap = planned(self.seeds, self.arms)
        right = study(USUAL, [LEVEL, LEVEL + gap, *[LEVEL] * (self.arms - 1)], self.seeds, rng)
        return {"detectable: deviations": size, "points": gap, "better": first(right).kind == "better"}

    def limits(self) -> Limits:
        return {"better": (100 * POWER - TOLERANCE[self.seeds], 100 * POWER + TOLERANCE[self.seeds])}


@dataclass(frozen=True)
class Further:
    """How often do 'k more seeds' decide what five left undecided: in a fresh study, and in the same one continued?"""

    spread_in_margins: float
    margins_apart: int

    def study(self, rng: np.random.Generator) -> Outcome:
        margin = USUAL.run_spread(LEVEL) / self.spread_in_margins
        levels, effects = [LEVEL, LEVEL + self.margins_apart * margin], USUAL.image_effects(2, rng)
        ability = USUAL.ability_on_these(levels, effects)
        begun = USUAL.right(ability, effects, 5, rng)
        verdict = first(begun, margin)
        if verdict.kind != "undecided":
            return {"undecided": False}
        k = min(verdict.further or MOST, MOST)
        fresh = first(study(USUAL, levels, 5 + k, rng), margin).kind
        longer = np.concatenate([begun, USUAL.right(ability, effects, k, rng)], 1)
        return {
            "undecided": True,
            "mean k": float(k),
            f"k cut to {MOST}": k == MOST,
            "fresh: decided": fresh != "undecided",
            "fresh: decided and right": fresh == ("better" if self.margins_apart else "equivalent"),
            "continued: decided": first(longer, margin).kind != "undecided",
        }

    def limits(self) -> Limits:
        return {"fresh: decided": (100 * POWER, 100.0)}


Setting = Coverage | Errors | Power | Further
SETTINGS: list[Setting] = [
    *(Coverage(regime, seeds) for regime in REGIMES for seeds in (4, 6, 10)),
    *(Errors(plan, arms, rho) for plan in get_args(Pairing) for arms in (1, 3, 12) for rho in (-0.3, 0.0, 0.3, 0.8)),
    *(Power(seeds, arms) for arms in (1, 3) for seeds in (5, 8, 12)),
    *(Further(spread, apart) for spread in (0.6, 0.8) for apart in (0, 1)),
]


class Count:
    """The mean of what studies gave, in percent where they gave yes or no."""

    def __init__(self, values: Sequence[float]) -> None:
        self.share, self.studies = np.asarray(values).dtype == bool, len(values)
        self.mean = float(np.mean(values)) * (100 if self.share else 1)

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.error(self.mean):.1f}" if self.share else f"{self.mean:.2f}"

    def error(self, share: float) -> float:
        """Monte Carlo standard error where this is the true share."""
        return float(np.sqrt(share * (100 - share) / self.studies))

    def within(self, low: float, high: float) -> bool:
        """Whether the true share may lie between these."""
        far = [STANDARD_ERRORS * self.error(limit) for limit in (low, high)]
        return low - far[0] <= self.mean <= high + far[1]


def counted(setting: Setting, studies: int) -> dict[str, Count]:
    """All that a setting's studies give, from a stream of its own."""
    began, rng = time.process_time(), np.random.default_rng(stream(0, setting))
    values: dict[str, list[float]] = defaultdict(list)
    for _ in range(studies):
        for name, value in setting.study(rng).items():
            values[name].append(value)
    print(f"{time.process_time() - began:6.0f} s of CPU  {setting}", file=sys.stderr, flush=True)
    return {name: Count(each) for name, each in values.items()}


def simulated(studies: int, jobs: int, settings: Sequence[Any] | None = None) -> dict[Any, dict[str, Count]]:
    """What every setting gives, the dear ones begun first; in this process where there is one job."""
    asked = list(settings or SETTINGS)
    count, dear_first = functools.partial(counted, studies=studies), asked[::-1]
    if jobs == 1:
        return {setting: count(setting) for setting in asked}
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers, which start anew
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        found = dict(zip(dear_first, pool.map(count, dear_first), strict=True))
    return {setting: found[setting] for setting in asked}


def rendered(found: Mapping[Any, dict[str, Count]], quick: bool) -> str:
    """Every table as Markdown, below the command that makes them."""
    form = f"{QUICK} studies a setting, `--quick`" if quick else f"{FULL:,} studies a setting, the full form"
    lines = [f"{form}; shares in percent ± Monte Carlo standard error."]
    for kind in dict.fromkeys(type(setting) for setting in found):
        rows = [(setting, counts) for setting, counts in found.items() if type(setting) is kind]
        names = list(dict.fromkeys(name for _, counts in rows for name in counts))
        heads = [field.name.replace("_", " ") for field in dataclasses.fields(kind)] + names
        cells = [[*vars(setting).values(), *(counts.get(name, "") for name in names)] for setting, counts in rows]
        lines += ["", f"**{kind.__name__}**: {kind.__doc__}", ""]
        lines += markdown_table(heads, cells, "r" * len(heads))
    return "\n".join(lines) + "\n"


def missed(found: Mapping[Any, dict[str, Count]]) -> list[str]:
    """Everything that must hold and does not."""
    return [
        f"does not hold: {setting}: {name} {counts[name]}, must lie between {low:g} and {high:g}"
        for setting, counts in found.items()
        for name, (low, high) in setting.limits().items()
        if name in counts and not counts[name].within(low, high)
    ]


def main(
    arguments: Sequence[str] | None = None,
    settings: Sequence[Any] | None = None,
    block: str = "coverage",
    about: str | None = __doc__,
) -> int:
    """Simulate; print the tables, and all that does not hold; write them where the page has a block of that name."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} studies a setting instead of {FULL:,}")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/statistics.md")
    parser.add_argument("--jobs", type=int, default=2, help="processes; the numbers do not depend on it")
    asked = parser.parse_args(arguments)
    found = simulated(QUICK if asked.quick else FULL, asked.jobs, settings)
    tables = rendered(found, asked.quick)
    print(tables)
    if asked.write:
        place = re.compile(rf"(<!-- {block} -->\n).*?(<!-- end -->)", re.DOTALL)
        PAGE.write_text(place.sub(lambda found: found[1] + tables + found[2], PAGE.read_text()))
    print("\n".join(missed(found)) or "everything that must hold does")
    return 1 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
