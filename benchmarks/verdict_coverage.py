"""How often the intervals and verdicts of `attnbench.compare` are right: simulated studies whose truth is known.

    python benchmarks/verdict_coverage.py --quick           # minutes; 300 studies a setting
    python benchmarks/verdict_coverage.py --write           # 2,000 studies a setting, tables into docs/statistics.md

A run's answer to an image is right where ability + seed effect + image effect + noise > 0, all of them normal, the
noise of unit variance (a probit with crossed effects). Exit code 1 where something that must hold does not.
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
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
from scipy.special import ndtr, ndtri

from attnbench import compare
from attnbench.comparison import Cell
from attnbench.power import POWER, can_decide, detectable
from attnbench.resampling import Pairing, crossed_draws
from attnbench.seeding import stream
from attnbench.stats import ALPHA
from attnbench.store import RunRecord
from attnbench.verdicts import Contrast, Plan

PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
BLOCK = re.compile(r"(<!-- coverage -->\n).*?(<!-- end -->)", re.DOTALL)
FULL, QUICK = 2_000, 300
STANDARD_ERRORS = 3.0
"""A limit is missed where the share lies beyond it by more than this many of its Monte Carlo standard errors."""
LEVEL = 75.0
"""Expected accuracy of the baseline, in percent."""
WIDE = 50.0
"""A margin that every comparison passes, where equivalence is not what is counted."""
TOLERANCE = 5.0
"""Points by which the share found may lie off the planned power: the permutation test is discrete."""
MOST = 60
"""More further seeds than this are not simulated."""
MEASURED = ("measured r", "k", "seeds' error : images'", "detectable, in standard deviations", "in points")
"""Columns that are no shares."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


@dataclass(frozen=True)
class World:
    """Spreads of the effects, in standard deviations of the noise, and how they go together."""

    seeds: float
    images: float = 1.5
    rho: float = 0.0
    """Correlation of an arm's seed effects with the baseline's, at equal seeds."""
    shared: float = 0.8
    """The share of the variance of the image effects that all arms have in common."""
    size: int = 500

    def image_effects(self, arms: int, rng: np.random.Generator) -> np.ndarray:
        """Arms x N."""
        common, own = rng.standard_normal(self.size), rng.standard_normal((arms, self.size))
        return self.images * (np.sqrt(self.shared) * common + np.sqrt(1 - self.shared) * own)

    def right(self, ability: np.ndarray, effects: np.ndarray, runs: int, rng: np.random.Generator) -> np.ndarray:
        """Whether the run of each arm and seed is right about each image: arms x S x N."""
        seed = rng.standard_normal((len(ability), runs))
        seed[1:] = self.rho * seed[0] + np.sqrt(1 - self.rho**2) * seed[1:]
        noise = rng.standard_normal((len(ability), runs, self.size), np.float32)
        known = ability[:, None] + self.seeds * seed
        found: np.ndarray = noise > -(known[..., None] + effects[:, None])
        return found

    def on_these(self, ability: np.ndarray, effects: np.ndarray) -> np.ndarray:
        """Truth of *this test set*: each arm's expected accuracy over seeds on images of these effects, in percent."""
        return 100 * ndtr((ability[:, None] + effects) / np.hypot(1, self.seeds)).mean(1)

    def on_new(self, ability: np.ndarray) -> np.ndarray:
        """Truth of *new images*: the same over images too."""
        return 100 * ndtr(ability / self._spread)

    def ability_on_new(self, levels: Sequence[float]) -> np.ndarray:
        """The abilities whose accuracies on new images are these."""
        return ndtri(np.asarray(levels) / 100) * self._spread

    def ability_on_these(self, levels: Sequence[float], effects: np.ndarray) -> np.ndarray:
        """The abilities whose expected accuracies on these very images are these, by Newton's method."""
        ability, scale = self.ability_on_new(levels), np.hypot(1, self.seeds)
        for _ in range(5):
            slope = (
                100 * np.exp(-(((ability[:, None] + effects) / scale) ** 2) / 2).mean(1) / np.sqrt(2 * np.pi) / scale
            )
            ability = ability + (np.asarray(levels) - self.on_these(ability, effects)) / slope
        return ability

    def run_spread(self, level: float) -> float:
        """Standard deviation of accuracy between seeds on one test set, in points, the binomial part included."""
        chance = self._chances(level)  # seeds x images
        by_seed = _mean(chance.T)
        return 100 * float(np.sqrt(_variance(by_seed) + _mean(_mean((chance * (1 - chance)).T)) / self.size))

    def image_spread(self, level: float) -> float:
        """Standard deviation of expected accuracy between test sets, in points."""
        return 100 * float(np.sqrt(_variance(_mean(self._chances(level))) / self.size))

    @property
    def _spread(self) -> float:
        return float(np.sqrt(1 + self.seeds**2 + self.images**2))

    def _chances(self, level: float) -> np.ndarray:
        """Chance to be right, by seed effect and image effect, at the nodes of a quadrature."""
        return ndtr(self.ability_on_new([level]) + self.seeds * NODES[:, None] + self.images * NODES)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over a normal effect, whose nodes are the first axis."""
    return WEIGHTS @ values / WEIGHTS.sum()


def _variance(values: np.ndarray) -> float:
    return float(_mean(values**2) - _mean(values) ** 2)


REGIMES = {"small": World(0.02, images=3.0), "equal": World(0.16), "large": World(0.45)}
"""The seeds' part of the error of an arm's mean beside the images' part, at six seeds."""
USUAL, MILD = World(0.2), World(0.1)
"""Where arms are paired, most of the spread must be the seeds' for pairs to matter; a mild one elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Simulated(RunRecord):
    """A record whose predictions lie in memory."""

    said: SimpleNamespace | None = None

    @property
    def predictions(self) -> SimpleNamespace | None:  # type: ignore[override]
        """What it said of each image; None where only accuracies are analysed."""
        return self.said


@functools.cache
def _template(arm: int, seed: int) -> Simulated:
    form = {"dataset": "simulated", "backbone": "probit", "attention": f"arm{arm:02}" if arm else "none"}
    form |= {"site": None, "stages": None, "seed": seed, "versions": {"attention": 1, "backbone": 1, "dataset": 1}}
    return Simulated(
        id=f"{arm:06}{seed:06}", spec={"seed": seed}, canonical=form, status="done", cards={"attention": {}}
    )


def analysed(right: np.ndarray, margin: float = WIDE, pairing: Pairing = "independent", whole: bool = False) -> Cell:
    """What `attnbench.compare` makes of a simulated study: arms x S x N, the baseline first; `whole` with images."""
    labels = np.zeros(right.shape[2], np.int64)
    records = []
    for arm, runs in enumerate(right):
        for seed, one in enumerate(runs):
            said = SimpleNamespace(labels=labels, predicted=np.where(one, 0, 1), correct=one) if whole else None
            test = {"accuracy": 100 * float(one.mean()), "images": len(one)}
            records.append(dataclasses.replace(_template(arm, seed), test=test, said=said))
    return compare(records, plan=Plan(margin=margin, pairing=pairing)).cells[0]


def _study(world: World, levels: Sequence[float], runs: int, rng: np.random.Generator) -> np.ndarray:
    """Arms x S x N: a study whose expected accuracies on its very images are these."""
    effects = world.image_effects(len(levels), rng)
    return world.right(world.ability_on_these(levels, effects), effects, runs, rng)


def _contrasts(cell: Cell) -> list[Contrast]:
    return [arm.contrast for arm in cell.arms if arm.contrast]


def _percent(happened: bool) -> float:
    return 100.0 if happened else 0.0


@functools.cache
def _detectable(seeds: int, family: int) -> tuple[float, float]:
    """The difference that such a plan detects: in standard deviations between seeds, and in points."""
    size, gap = detectable(seeds, seeds, family), 0.0
    for _ in range(20):
        gap = size * float(np.hypot(MILD.run_spread(LEVEL), MILD.run_spread(LEVEL + gap))) / np.sqrt(2)
    return size, gap


@dataclass(frozen=True)
class Coverage:
    """Do the 95 % intervals hold the truth? Per cent of studies, for an arm's accuracy and for a difference."""

    regime: str
    seeds: int

    def study(self, rng: np.random.Generator) -> dict[str, float]:
        """One study of two arms."""
        world, levels = REGIMES[self.regime], (LEVEL, LEVEL + 2)
        ability, effects = world.ability_on_new(levels), world.image_effects(2, rng)
        right = world.right(ability, effects, self.seeds, rng)
        one, two = analysed(right, whole=True).arms
        here, draws = world.on_these(ability, effects), [crossed_draws(100.0 * r, i) for i, r in enumerate(right)]
        found = {"seeds' error : images'": world.run_spread(LEVEL) / np.sqrt(self.seeds) / world.image_spread(LEVEL)}
        for what, t, ours, drawn, truth, wider in (
            ("accuracy", one.accuracy, one.new_images, draws[0], here[0], levels[0]),
            ("difference", two.difference, two.contrast.new_images, draws[1] - draws[0], here[1] - here[0], 2.0),
        ):
            found[f"{what}: this test set"] = _percent(t.low <= truth <= t.high)
            found[f"{what}: new images"] = _percent(ours.low <= wider <= ours.high)
            found[f"{what}: (t, new images)"] = _percent(t.low <= wider <= t.high)
            low, high = np.percentile(drawn, [2.5, 97.5])
            found[f"{what}: (percentiles, new images)"] = _percent(low <= wider <= high)
        return found

    def limits(self) -> dict[str, tuple[float, float]]:
        """What the shares must lie between."""
        this = {f"{what}: this test set": (94.0, 96.0) for what in ("accuracy", "difference")}
        new = {f"{what}: new images": (94.0, 100.0) for what in ("accuracy", "difference")}
        return this | new if self.seeds >= 6 else this


@dataclass(frozen=True)
class Errors:
    """How often is a study wrong about any of its arms? Per cent of studies, at eight seeds."""

    plan: Pairing
    arms: int
    rho: float

    def study(self, rng: np.random.Generator) -> dict[str, float]:
        """One study whose arms are all equal, and one whose arms all lie above the baseline by just the margin."""
        world, family = dataclasses.replace(USUAL, rho=self.rho), [LEVEL] * (self.arms + 1)
        margin = 2 * world.run_spread(LEVEL)  # four standard errors: an arm is seldom undecided, which is slow
        equal = _contrasts(analysed(_study(world, family, 8, rng), pairing=self.plan))
        found = {
            "measured r": float(np.nanmean([each.correlation.r for each in equal])),
            "better or worse, arms equal": _percent(any(each.verdict.kind in ("better", "worse") for each in equal)),
        }
        if can_decide(8, 8, self.arms, self.plan):
            apart = _study(world, [LEVEL, *[LEVEL + margin] * self.arms], 8, rng)
            verdicts = [each.verdict for each in _contrasts(analysed(apart, margin, self.plan))]
            found["equivalent, arms the margin apart"] = _percent(any(verdict.within_margin for verdict in verdicts))
        return found

    def limits(self) -> dict[str, tuple[float, float]]:
        """What the shares must lie between: a negative correlation is for pairs."""
        promised = self.plan == "paired" or self.rho >= 0
        names = ("better or worse, arms equal", "equivalent, arms the margin apart")
        return dict.fromkeys(names, (0.0, 100 * ALPHA)) if promised else {}


@dataclass(frozen=True)
class Power:
    """Is a difference that a plan calls detectable found? Per cent of studies in which the one arm that has it is."""

    seeds: int
    arms: int

    def study(self, rng: np.random.Generator) -> dict[str, float]:
        """One study: the first arm better by the detectable difference, the others equal to the baseline."""
        size, gap = _detectable(self.seeds, self.arms)
        right = _study(MILD, [LEVEL, LEVEL + gap, *[LEVEL] * (self.arms - 1)], self.seeds, rng)
        kind = _contrasts(analysed(right))[0].verdict.kind
        return {"detectable, in standard deviations": size, "in points": gap, "better": _percent(kind == "better")}

    def limits(self) -> dict[str, tuple[float, float]]:
        """What the share must lie between."""
        return {"better": (100 * POWER - TOLERANCE, 100 * POWER + TOLERANCE)}


@dataclass(frozen=True)
class Further:
    """Do 'k more seeds' decide? Of the studies that are undecided at five seeds, per cent decided with k more."""

    spread: float
    apart: int

    def study(self, rng: np.random.Generator) -> dict[str, float]:
        """One study of two arms at five seeds; where undecided a fresh one of more seeds, and its own continuation."""
        margin = MILD.run_spread(LEVEL) / self.spread
        levels, effects = [LEVEL, LEVEL + self.apart * margin], MILD.image_effects(2, rng)
        ability = MILD.ability_on_these(levels, effects)
        begun = MILD.right(ability, effects, 5, rng)
        verdict = _contrasts(analysed(begun, margin))[0].verdict
        if verdict.kind != "undecided":
            return {"undecided at five": 0.0}
        further = min(verdict.further or MOST, MOST)
        fresh = _study(MILD, levels, 5 + further, rng)
        longer = np.concatenate([begun, MILD.right(ability, effects, further, rng)], 1)
        new, same = (_contrasts(analysed(right, margin))[0].verdict.kind for right in (fresh, longer))
        return {
            "undecided at five": 100.0,
            "k": further,
            f"k cut to {MOST}": _percent(further == MOST),
            "fresh: decided": _percent(new != "undecided"),
            "fresh: decided and right": _percent(new == ("better" if self.apart else "equivalent")),
            "continued: decided": _percent(same != "undecided"),
        }

    def limits(self) -> dict[str, tuple[float, float]]:
        """What the share must lie between."""
        return {"fresh: decided": (100 * POWER, 100.0)}


Setting = Coverage | Errors | Power | Further
SETTINGS: list[Setting] = [
    *(Coverage(regime, seeds) for regime in REGIMES for seeds in (4, 6, 10)),
    *(Errors(plan, arms, rho) for plan in get_args(Pairing) for arms in (1, 3, 12) for rho in (-0.3, 0.0, 0.3, 0.8)),
    *(Power(seeds, arms) for arms in (1, 3) for seeds in (5, 8, 12)),
    *(Further(spread, apart) for spread in (0.5, 0.7) for apart in (0, 1)),
]


def counted(setting: Setting, studies: int) -> dict[str, tuple[float, float]]:
    """Mean and Monte Carlo standard error of all that a setting's studies give, from a stream of its own."""
    begin, rng = time.perf_counter(), np.random.default_rng(stream(0, setting))
    values: dict[str, list[float]] = defaultdict(list)
    for _ in range(studies):
        for name, value in setting.study(rng).items():
            values[name].append(value)
    print(f"{setting}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    return {name: (float(np.mean(all_)), float(np.std(all_) / np.sqrt(len(all_)))) for name, all_ in values.items()}


def shortfalls(setting: Setting, found: dict[str, tuple[float, float]]) -> list[str]:
    """Everything that must hold and does not."""
    return [
        f"{setting}: {name!r} is {mean:.1f} ± {error:.1f}, must lie between {low:g} and {high:g}"
        for name, (low, high) in setting.limits().items()
        if name in found
        for mean, error in [found[name]]
        if not low - STANDARD_ERRORS * error <= mean <= high + STANDARD_ERRORS * error
    ]


def rendered(found: dict[Setting, dict[str, tuple[float, float]]], command: str, studies: int) -> str:
    """Every table as Markdown, below the command that makes them."""
    lines = [
        f"`{command}`: {studies:,} simulated studies a setting; share in percent ± its Monte Carlo standard error."
    ]
    for kind in get_args(Setting):
        rows = {setting: counts for setting, counts in found.items() if isinstance(setting, kind)}
        names = list(dict.fromkeys(name for counts in rows.values() for name in counts))
        heads = [field.name for field in dataclasses.fields(kind)] + names
        lines += ["", f"**{kind.__name__}.** {kind.__doc__}", "", _row(heads), _row([":--", *["--:"] * (len(heads) - 1)])]
        for setting, counts in rows.items():
            lines.append(_row([*map(str, vars(setting).values()), *(_cell(name, counts.get(name)) for name in names)]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(name: str, count: tuple[float, float] | None) -> str:
    if count is None:
        return ""
    return f"{count[0]:.2f}" if name in MEASURED else f"{count[0]:.1f} ± {count[1]:.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print the tables and all that does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} studies a setting instead of {FULL:,}")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/statistics.md")
    parser.add_argument("--jobs", type=int, default=2, help="processes; the numbers do not depend on it")
    asked = parser.parse_args(arguments)
    studies = QUICK if asked.quick else FULL
    found = simulated(studies, asked.jobs)
    command = f"python benchmarks/verdict_coverage.py{' --quick' if asked.quick else ''} --write"
    tables = rendered(found, command, studies)
    print(tables)
    if asked.write:
        PAGE.write_text(BLOCK.sub(lambda block: block[1] + tables + block[2], PAGE.read_text()))
    missed = [line for setting, counts in found.items() for line in shortfalls(setting, counts)]
    print("\n".join(missed) or "everything that must hold does")
    return 1 if missed else 0


def simulated(studies: int, jobs: int) -> dict[Setting, dict[str, tuple[float, float]]]:
    """What every setting gives, the dear ones begun first; in this process where there is one job."""
    count = functools.partial(counted, studies=studies)
    if jobs == 1:
        return dict(zip(SETTINGS, map(count, SETTINGS), strict=True))
    os.environ["OMP_NUM_THREADS"] = "1"  # read by workers, which start anew
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        dear_first = SETTINGS[::-1]
        found = dict(zip(dear_first, pool.map(count, dear_first), strict=True))
    return {setting: found[setting] for setting in SETTINGS}


if __name__ == "__main__":
    sys.exit(main())
