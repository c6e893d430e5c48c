"""How often statements about many arms, and accuracies near 100 %, are right: simulated studies whose truth is known.

    python benchmarks/many_coverage.py --quick              # minutes; 300 studies a setting
    python benchmarks/many_coverage.py --write              # 2,000 studies a setting, tables into docs/statistics.md

Exit code 1 where something that must hold does not.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from simulated_studies import WIDE, World
from verdict_coverage import Limits, Outcome, main

from attnbench.analysis.accuracies import accuracy, accuracy_on_new_images
from attnbench.analysis.best import best_of
from attnbench.analysis.cells import Cell, cell_of
from attnbench.analysis.pairs import simultaneous
from attnbench.analysis.plan import Plan
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.sample import Sample
from attnbench.analysis.stats import ALPHA, difference, estimate

LEVEL, SPREAD = 75.0, 0.5
"""Accuracy of an arm in percent, and its standard deviation between seeds on a typical arm."""
Shape = Literal["alike", "one wide", "half wide", "one narrow", "two-humped", "left-tailed", "tied"]
Rng = np.random.Generator


def _normal(rng: Rng, n: int) -> np.ndarray:
    return rng.standard_normal(n)


def _two_humped(rng: Rng, n: int) -> np.ndarray:
    return 0.3 * rng.standard_normal(n) + rng.choice([-0.95, 0.95], n)


def _left_tailed(rng: Rng, n: int) -> np.ndarray:
    """One run of twenty loses ten points."""
    return rng.standard_normal(n) - 20.0 * (rng.random(n) < 0.05)


def _tied(rng: Rng, n: int) -> np.ndarray:
    return np.round(rng.standard_normal(n))


DRAWN: dict[str, Callable[[Rng, int], np.ndarray]] = {
    "two-humped": _two_humped,
    "left-tailed": _left_tailed,
    "tied": _tied,
}


def spreads(shape: Shape, arms: int) -> np.ndarray:
    """Standard deviations between seeds of the arms, in those of a typical one; the first arm is the odd one."""
    found = np.ones(arms)
    if shape in ("one wide", "one narrow"):
        found[0] = 4.0 if shape == "one wide" else 0.25
    if shape == "half wide":
        found[: arms // 2] = 4.0
    return found


def drawn(shape: Shape, levels: np.ndarray, sizes: np.ndarray, rng: Rng) -> list[np.ndarray]:
    """The accuracies of each arm."""
    wide, draw = spreads(shape, len(levels)), DRAWN.get(shape, _normal)
    return [
        level + SPREAD * spread * draw(rng, n) for level, spread, n in zip(levels, wide, map(int, sizes), strict=True)
    ]


def cell(values: Sequence[np.ndarray], pairing: Pairing = "independent") -> Cell:
    """What is made of these arms, the first of which is the baseline; one look, which is planned for equal numbers."""
    names = [f"arm{place:02}" for place in range(len(values))]
    samples = {name: Sample(name, tuple(range(len(own))), own) for name, own in zip(names, values, strict=True)}
    sizes = tuple({len(own) for own in values})
    return cell_of("simulated", samples, Plan(names[0], WIDE, pairing, looks=sizes if len(sizes) == 1 else None))


@dataclass(frozen=True)
class Picked:
    """How often is the best of equal arms called better than the worst, which were picked from the table?"""

    arms: int
    seeds: int
    shape: Shape

    def study(self, rng: Rng) -> Outcome:
        values = drawn(self.shape, np.full(self.arms, LEVEL), np.full(self.arms, self.seeds), rng)
        means = [own.mean() for own in values]
        best, worst = values[int(np.argmax(means))], values[int(np.argmin(means))]
        alone = difference(best, worst).p_value < ALPHA
        found = simultaneous(best, worst, values).p_value < ALPHA if alone else False  # where not alone, not at all
        return {"as a single comparison": alone, "as one of all pairs": found}

    def limits(self) -> Limits:
        return {"as one of all pairs": (0.0, 100 * ALPHA)}


@dataclass(frozen=True)
class BestSet:
    """How often is a truly best arm among those that cannot be told from the best, and how many others are?"""

    arms: int
    seeds: int
    shape: Shape
    ahead: float
    """By how many standard deviations the first arm is better than the others; 0: all are equally good."""
    others: float = 1.0
    """Seeds of the other arms over those of the first."""
    plan: Pairing = "independent"

    def study(self, rng: Rng) -> Outcome:
        levels = LEVEL + SPREAD * np.r_[self.ahead, np.zeros(self.arms - 1)]
        sizes = np.r_[self.seeds, np.full(self.arms - 1, round(self.others * self.seeds))]
        found = best_of(cell(drawn(self.shape, levels, sizes, rng), self.plan))
        assert found is not None
        return {"holds the best": "arm00" in found.among, "size of the set": float(len(found.among))}

    def limits(self) -> Limits:
        return {"holds the best": (100 * (1 - ALPHA), 100.0)}


@dataclass(frozen=True)
class Winner:
    """By how many points is the best of equal arms ahead of the baseline, and what does the report say of that?"""

    arms: int
    seeds: int

    def study(self, rng: Rng) -> Outcome:
        values = drawn("alike", np.full(self.arms + 1, LEVEL), np.full(self.arms + 1, self.seeds), rng)
        found = cell(values)
        told, best = best_of(found), max(found.arms[1:], key=lambda arm: arm.score.mean)
        assert told is not None
        assert best.difference is not None
        fresh = rng.normal(LEVEL, SPREAD, self.seeds).mean() - rng.normal(LEVEL, SPREAD, self.seeds).mean()
        return {
            "lead of the best": best.difference.mean,
            "luck as told": told.luck,
            "lead with fresh seeds": float(fresh),
            "its interval holds 0": best.difference.low <= 0 <= best.difference.high,
        }

    def limits(self) -> Limits:
        return {}


@dataclass(frozen=True)
class High:
    """How often do intervals of an accuracy near 100 % hold the truth, and how many of Student's end above 100 %?"""

    level: float
    images: int
    seeds: int
    spread: float
    """Of the seeds' effects, in standard deviations of the noise."""

    def study(self, rng: Rng) -> Outcome:
        world = World(self.spread, size=self.images)
        ability, effects = world.ability_on_new([self.level]), world.image_effects(1, rng)
        right = 100.0 * world.right(ability, effects, self.seeds, rng)[0]
        values, here = right.mean(1), float(world.on_these(ability, effects)[0])
        found, new, plain = accuracy(values, self.images), accuracy_on_new_images(right), estimate(values)
        assert new is not None
        return {
            "this test set": found.low <= here <= found.high,
            "new images": new.low <= self.level <= new.high,
            "this test set, by Student's t": plain.low <= here <= plain.high,
            "by t above 100": plain.high > 100,
            "half width": (found.high - found.low) / 2,
        }

    def limits(self) -> Limits:
        return {"this test set": (94.0, 100.0), "new images": (94.0, 100.0)} if self.seeds >= 6 else {}


SHAPES: Sequence[Shape] = ("one wide", "half wide", "one narrow", "two-humped", "left-tailed", "tied")
SETTINGS: Sequence[Picked | BestSet | Winner | High] = [
    *(Picked(arms, seeds, "alike") for arms in (3, 12, 30) for seeds in (5, 8)),
    *(Picked(12, 5, shape) for shape in SHAPES),
    *(BestSet(arms, seeds, "alike", 0.0) for arms in (3, 12, 30) for seeds in (5, 8)),
    *(BestSet(arms, 5, "alike", 2.0) for arms in (3, 12, 30)),
    *(BestSet(arms, 5, "alike", 0.0, plan="paired") for arms in (3, 12)),
    *(BestSet(12, 5, shape, 0.0) for shape in SHAPES),
    *(BestSet(arms, 4, "one wide", 0.0, others=2.0) for arms in (3, 12)),
    *(BestSet(arms, 8, "one narrow", 0.0, others=0.5) for arms in (3, 12)),
    *(Winner(arms, seeds) for arms in (3, 12, 30) for seeds in (5, 8)),
    *(High(99.5, 359, seeds, spread) for seeds in (6, 10) for spread in (0.1, 0.45)),
    *(High(99.9, 359, seeds, 0.1) for seeds in (6, 10)),
    *(High(97.0, 359, seeds, 0.1) for seeds in (6, 10)),
]

if __name__ == "__main__":
    sys.exit(main(settings=SETTINGS, block="many", about=__doc__))
