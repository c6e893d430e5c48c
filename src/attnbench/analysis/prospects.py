"""What the design of a study can say before it is trained, for each size of family among its cells."""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.cells import baseline_of
from attnbench.analysis.comparison import designs
from attnbench.analysis.plan import Design, Plan
from attnbench.analysis.power import MOST_SEEDS, POWER, further_seeds, probability
from attnbench.analysis.recorded import planned_key
from attnbench.spec.arm import ArmKey, labels
from attnbench.spec.study import Study
from attnbench.store.runs import RunRecord

SURE = 1e9
"""Degrees of freedom of a spread that is taken as known."""


@dataclass(frozen=True)
class Spread:
    """A standard deviation between seeds, of the pairs' differences where pairs are compared."""

    points: float
    freedom: float = SURE
    source: str = "as given"


@dataclass(frozen=True)
class Prospect:
    """A design and what is known of the spread that it meets."""

    design: Design
    spread: Spread | None = None

    def found(self, size: float, seeds: int | None = None) -> float:
        """How often a true difference of so many standard deviations is found, by as many seeds as planned or given."""
        n = seeds or self.design.seeds
        return probability(size, n, n, self.design.family, self.design.pairing, self.design.level)

    def seeds_for(self, size: float) -> int | None:
        """How many seeds an arm find such a difference with 80 %; None where even a thousand do not."""
        tried = range(2, MOST_SEEDS + 1)
        place = bisect.bisect_left(tried, True, key=lambda n: self.found(size, n) >= POWER)
        return tried[place] if place < len(tried) else None

    @property
    def seeds_to_decide(self) -> int | None:
        """How many seeds an arm decide: a difference of the margin is found and none is equivalent, with 80 % each."""
        if self.spread is None:
            return None
        design = self.design
        each = design.level / design.family
        levels = None if design.looks else lambda _: (each, each)
        return further_seeds(
            self.spread.points, self.spread.freedom, 0, design.margin, design.family, design.pairing, levels
        )

    @property
    def sizes(self) -> list[float]:
        """True differences that are asked about, in standard deviations; with a known spread, by the margin."""
        if self.spread is None:
            return [0.5, 1.0, 1.5, 2.0, 3.0]
        return [share * self.design.margin / self.spread.points for share in (0.5, 1.0, 1.5, 2.0, 3.0)]


def prospects(study: Study, records: Iterable[RunRecord] = (), given: float | None = None) -> list[Prospect]:
    """One for each size of family among the cells of a study.

    Args:
        records: those of a store, of which the tested runs of the study's cells tell the spread.
        given: the spread in points, which then counts alone.
    """
    plan, cells = Plan.of(study), study.cells()
    scores: dict[str, dict[ArmKey, dict[int, float]]] = {cell: {} for cell in cells}
    for record in records:
        if record.done and record.scored == "test" and (cell := planned_key(record, plan)) in cells:
            arm = scores[cell].setdefault(ArmKey.of(record.canonical), {})
            arm[record.spec["seed"]] = record.accuracy
    return [
        Prospect(design, Spread(given) if given else _spread(_groups(study, design, scores)))
        for design in designs(study)
    ]


def _groups(study: Study, design: Design, scores: dict[str, dict[ArmKey, dict[int, float]]]) -> list[np.ndarray]:
    """Values that differ by chance alone: the scores of an arm, or where pairs are compared, its differences."""
    found = []
    for cell, arms in study.cells().items():
        if len(arms) - 1 != design.family:
            continue
        known = scores[cell]
        if design.pairing == "independent":
            found += [np.array([*values.values()]) for values in known.values()]
            continue
        names = labels({arm: specs[0].resolved.attention.placed.site for arm, specs in arms.items()})
        key = baseline_of(names, study.baseline)
        baseline = known.get(key, {}) if key else {}
        pairs = [(values, [*values.keys() & baseline.keys()]) for values in known.values() if values is not baseline]
        found += [np.array([values[seed] - baseline[seed] for seed in seeds]) for values, seeds in pairs]
    return [values for values in found if len(values) > 1]


def _spread(groups: list[np.ndarray]) -> Spread | None:
    """The pooled standard deviation; None where nothing is known, or nothing varies."""
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    pooled = math.sqrt(sum(float(values.var(ddof=1)) * (len(values) - 1) for values in groups) / freedom)
    runs = sum(map(len, groups))
    return Spread(pooled, freedom, f"of {runs} done runs of {len(groups)} arms") if pooled else None
