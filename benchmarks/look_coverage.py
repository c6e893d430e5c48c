"""How often verdicts are right that come at looks: simulated studies whose truth is known.

    python benchmarks/look_coverage.py --quick            # minutes; 300 studies a setting
    python benchmarks/look_coverage.py --write            # 2,000 studies a setting, tables into docs/statistics.md

Scores are drawn, not trained. Spreads and differences are told in standard deviations between the seeds of the
baseline, 0.5 points. Exit code 1 where something that must hold does not.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from unittest import mock

import numpy as np
from verdict_coverage import Limits, Outcome, main

from attnbench.analysis import course, resampling, stats, verdicts
from attnbench.analysis.cells import Cell, cell_of
from attnbench.analysis.looks import History
from attnbench.analysis.plan import Plan
from attnbench.analysis.power import further_seeds
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.sample import Sample
from attnbench.analysis.sequential import permutation_p_over
from attnbench.analysis.stats import ALPHA, holm, t_p
from attnbench.analysis.verdicts import Contrast

SD = 0.5
"""Between seeds, in points."""
MARGIN = 2 * SD
TINY = 1e-6
"""A margin within which nothing is ever found, so that no arm leaves before its last look."""
LOOKS = (5, 8, 12, 20)
EVERY = tuple(range(5, 21))
MOST = 20
"""Seeds an arm beyond which no simulated study goes."""
IMAGES = 200
"""Test images where scores tie."""
ALIKE, APART = "better or worse, all alike", "equivalent, all the margin apart"
"""What a false claim is in the two kinds of studies."""
NO_FALSE_CLAIMS: Limits = dict.fromkeys((ALIKE, APART), (0.0, 100 * ALPHA))


def _where_it_matters(
    one: np.ndarray, two: np.ndarray, sizes: Sequence[tuple[int, int]], parts: np.ndarray, pairing: Pairing
) -> float:
    """The permutation test's p, or 1 where Welch's test refuses at every look what would need both."""
    if all(t_p(one[:n], two[:m]) > ALPHA for n, m in sizes):
        return 1.0
    return permutation_p_over(one, two, sizes, parts, pairing)


def _spared(*_: object) -> None:
    """Numbers of a report that no verdict depends on."""


# What a simulation may leave out without changing any verdict.
for module, name, cheaper in (
    (resampling, "RESAMPLES", 4_999),  # the test is exact with any number
    (course, "permutation_p_over", _where_it_matters),
    (stats, "permutation_p", lambda *_: 0.0),  # a look's own p, which is shown beside
    (verdicts, "further_seeds", _spared),
):
    setattr(module, name, cheaper)

World = Literal["normal", "left tail", "two humps", "spread x2", "tied"]


def scores(world: World, arms: int, runs: int, rng: np.random.Generator) -> np.ndarray:
    """Arms x S scores of the same expectation, the baseline first."""
    shape = (arms, runs)
    if world == "left tail":
        return 75 + rng.normal(0, SD, shape) - 10.0 * (rng.random(shape) < 0.05)
    if world == "two humps":
        return 75 + SD * (np.where(rng.random(shape) < 0.5, -1.0, 1.0) + rng.normal(0, 0.3, shape))
    if world == "tied":
        return 100 * rng.binomial(IMAGES, 0.99, shape) / IMAGES
    spread = np.full((arms, 1), SD)
    spread[1:] *= 2 if world == "spread x2" else 1
    return 75 + spread * rng.standard_normal(shape)


def measured(world: World) -> tuple[int, float]:
    """Test images of a world, 0 where scores are no shares of any, and a margin of two standard deviations."""
    return (IMAGES, 2 * 0.7) if world == "tied" else (0, MARGIN)


def named(values: Sequence[np.ndarray] | np.ndarray, images: int) -> dict[str, Sample]:
    """Arms by their names, the baseline first."""
    names = ["none", *(f"arm{place}" for place in range(1, len(values)))]
    return {
        name: Sample(name, tuple(range(len(own))), own, images=images) for name, own in zip(names, values, strict=True)
    }


def cell(
    values: Sequence[np.ndarray] | np.ndarray,
    plan: Plan,
    seen: Sequence[int] = (),
    images: int = 0,
) -> Cell:
    """What attnbench makes of a study's scores; the seeds of looks before are `seen`."""
    samples = named(values, images)
    earlier = [{arm: tuple(range(n)) for arm in samples} for n in seen]
    seeds = {arm: tuple(range(len(sample.seeds))) for arm, sample in samples.items()}
    return cell_of("simulated", samples, plan, history=History(seeds, earlier))


def contrasts(found: Cell) -> list[Contrast]:
    return [arm.contrast for arm in found.arms if arm.contrast]


def claims(found: Cell) -> bool:
    """Whether any arm is called better or worse."""
    return any(each.verdict.kind in ("better", "worse") for each in contrasts(found))


def same(found: Cell) -> bool:
    """Whether any arm is called equivalent."""
    return any(each.verdict.kind == "equivalent" or each.verdict.within_margin for each in contrasts(found))


def naive(values: np.ndarray, looks: Sequence[int]) -> bool:
    """Whether some look claims a difference, where each is taken for the only one: Welch's test and Holm's method."""
    return any(min(holm([t_p(one[:n], values[0, :n]) for one in values[1:]])) < ALPHA for n in looks)


PLANS: dict[str, tuple[int, ...] | Literal["any"]] = {"5, 8, 12, 20": LOOKS, "each from 5 to 20": EVERY, "any": "any"}


@dataclass(frozen=True)
class Looks:
    """All arms alike, or all the margin apart: is there a false claim at any look at any arm?"""

    world: World
    arms: int
    looks: str

    def study(self, rng: np.random.Generator) -> Outcome:
        plan, (images, margin) = PLANS[self.looks], measured(self.world)
        alike = scores(self.world, self.arms + 1, MOST, rng)
        apart = scores(self.world, self.arms + 1, MOST, rng)
        apart[1:] -= margin
        return {
            ALIKE: claims(cell(alike, Plan(margin=TINY, looks=plan), images=images)),
            APART: same(cell(apart, Plan(margin=margin, looks=plan), images=images)),
            "each look as if the only one": naive(alike, EVERY if plan == "any" else plan),
        }

    def limits(self) -> Limits:
        return NO_FALSE_CLAIMS


@dataclass(frozen=True)
class Once:
    """One look at arms of which all are alike, or all the margin apart, with equal and unequal numbers of seeds."""

    world: World
    arms: int
    seeds: str

    def study(self, rng: np.random.Generator) -> Outcome:
        base, own = map(int, self.seeds.split(" + "))
        images, margin = measured(self.world)

        def drawn(shift: float) -> Cell:
            values = scores(self.world, self.arms + 1, max(base, own), rng)
            arms = [values[0, :base], *(one[:own] - shift for one in values[1:])]
            return cell_of("simulated", named(arms, images), Plan(margin=margin))

        return {ALIKE: claims(drawn(0)), APART: same(drawn(margin))}

    def limits(self) -> Limits:
        return NO_FALSE_CLAIMS


@dataclass(frozen=True)
class Added:
    """Run five seeds, see, add as many as the report says, and see again, up to three times; at most 20 in all."""

    arms: int
    world: World = "normal"

    def study(self, rng: np.random.Generator) -> Outcome:
        alike = scores(self.world, self.arms + 1, MOST, rng)
        apart = scores(self.world, self.arms + 1, MOST, rng)
        apart[1:] -= MARGIN
        fixed, added = self._followed(alike)
        return {
            ALIKE: claims(added),
            APART: same(self._followed(apart)[1]),
            "each look as if the only one": naive(alike, fixed),
            "mean looks": float(len(fixed)),
        }

    def _followed(self, values: np.ndarray) -> tuple[list[int], Cell]:
        seen: list[int] = []
        n = 5
        while True:
            with mock.patch.object(verdicts, "further_seeds", further_seeds):
                found = cell(values[:, :n], Plan(margin=MARGIN), seen)
            seen.append(n)
            more = [each.verdict.further or MOST for each in contrasts(found) if each.verdict.kind == "undecided"]
            if not more or n == MOST or len(seen) == 4:
                return seen, found
            n = min(n + max(more), MOST)

    def limits(self) -> Limits:
        return NO_FALSE_CLAIMS


@dataclass(frozen=True)
class Decided:
    """One arm that lies so many standard deviations above the baseline: how often and at how many seeds is it found?"""

    deviations_apart: float
    family: int
    looks: str

    def study(self, rng: np.random.Generator) -> Outcome:
        values = scores("normal", self.family + 1, MOST, rng)
        values[1] += self.deviations_apart * SD
        plan = (MOST,) if self.looks == "20 alone" else PLANS[self.looks]
        first, *_ = contrasts(cell(values, Plan(margin=SD, looks=plan)))
        low, high = first.difference.low, first.difference.high
        return {
            "decided": first.verdict.kind != "undecided",
            "better": first.verdict.kind == "better",
            "equivalent": first.verdict.kind == "equivalent",
            "mean seeds": float(first.difference.n),
            "interval holds the truth": low <= self.deviations_apart * SD <= high,
        }

    def limits(self) -> Limits:
        return {"interval holds the truth": (100 * (1 - ALPHA), 100.0)}


Setting = Looks | Once | Added | Decided
WORLDS: tuple[World, ...] = ("normal", "left tail", "two humps", "spread x2", "tied")
SETTINGS: list[Setting] = [
    *(Looks(world, arms, "5, 8, 12, 20") for world in WORLDS for arms in (1, 3, 12)),
    Looks("normal", 30, "5, 8, 12, 20"),
    *(Looks("normal", 3, looks) for looks in ("each from 5 to 20", "any")),
    *(Looks(world, 1, "any") for world in WORLDS[1:]),
    *(Once(world, 12, seeds) for world in WORLDS for seeds in ("8 + 8", "20 + 5")),
    *(Once(world, 12, "5 + 20") for world in ("normal", "spread x2")),
    *(Once("tied", 3, seeds) for seeds in ("2 + 2", "3 + 3")),
    *(Added(arms) for arms in (1, 3, 12)),
    *(Decided(apart, 1, looks) for apart in (0.0, 1.0, 1.5, 2.0) for looks in ("20 alone", *PLANS)),
    *(Decided(apart, 12, looks) for apart in (0.0, 1.5, 2.0) for looks in ("20 alone", "5, 8, 12, 20")),
]


if __name__ == "__main__":
    sys.exit(main(settings=SETTINGS, block="looks", about=__doc__))
