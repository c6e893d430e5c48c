"""Cells to one statement per mechanism: on these data sets, and for data sets like these."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from attnbench.analysis.cells import Cell
from attnbench.analysis.measure import Measure
from attnbench.analysis.pooling import RandomEffects, Ranks, added, on_these, random_effects, ranks
from attnbench.analysis.resampling import Stratum
from attnbench.analysis.sequential import Spending
from attnbench.analysis.stats import ALPHA, Difference, Estimate, around, holm, superiority
from attnbench.analysis.verdicts import Contrast, Kind


@dataclass(frozen=True)
class OnOne:
    """A mechanism against the baseline on one data set: the mean over the cells of this data set that have it."""

    dataset: str
    cells: int
    difference: Estimate
    """Only seeds vary; here `n` is the runs of the mechanism."""
    error: float
    """Standard error of the difference; nan where one seed cannot tell."""
    freedom: float
    """Degrees of freedom of that."""


@dataclass(frozen=True)
class Overall:
    """A mechanism against the baseline over several cells.

    Both p values are Holm's, over the mechanisms; they and the intervals hold over all looks.
    """

    arm: str
    measure: Measure
    sets: tuple[OnOne, ...]
    """Each data set for itself."""
    these: Difference
    """The mean difference on these data sets; only seeds vary. Its own p is of a single look and not corrected."""
    like: RandomEffects | None
    """The mean difference for data sets like these; None where all cells are of one."""
    superiority: Estimate
    """P(a run of the arm beats a run of the baseline), stratified by cell."""
    waiting: bool = False
    """Whether some cell has no verdict on it yet: then there are estimates, and no p."""
    these_p: float = math.nan
    like_p: float = math.nan
    family: int = 1
    """Mechanisms that share the 5 % error."""

    @property
    def on_these(self) -> Kind:
        """Better, worse or undecided on these data sets."""
        return self._kind(self.these, self.these_p)

    @property
    def on_like(self) -> Kind:
        """Better, worse or undecided for data sets like these."""
        return self._kind(self.like, self.like_p) if self.like else "undecided"

    @property
    def helped(self) -> int:
        """Data sets on which it came out ahead of the baseline."""
        return sum(self._gain(one.difference.mean) > 0 for one in self.sets)

    @property
    def credibly(self) -> tuple[int, int]:
        """Data sets whose own 95 % interval lies on the better side of 0, and on the worse."""
        ends = [sorted(map(self._gain, (one.difference.low, one.difference.high))) for one in self.sets]
        return sum(low > 0 for low, _ in ends), sum(high < 0 for _, high in ends)

    def _gain(self, difference: float) -> float:
        return difference if self.measure.higher_is_better else -difference

    def _kind(self, found: Difference | RandomEffects, p: float) -> Kind:
        if not p < ALPHA or found.low <= 0 <= found.high:
            return "undecided"
        return "better" if self._gain(found.mean) > 0 else "worse"


@dataclass(frozen=True)
class Across:
    """What all cells of one measure say together."""

    cells: tuple[Cell, ...]
    told: int = 1
    """How often they were told together, this time included: data sets that are added are looks, too."""
    absent: frozenset[Hashable] = frozenset()
    """Arms that some cell still waits for."""

    @property
    def measure(self) -> Measure:
        """What their runs score."""
        return self.cells[0].measure

    @property
    def baseline(self) -> str:
        """The arm that every other is compared with."""
        return self.cells[0].plan.baseline

    @cached_property
    def datasets(self) -> dict[str, list[Cell]]:
        """The cells of each data set: another backbone or recipe is another cell, and no other data set."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.dataset, []).append(cell)
        return found

    @cached_property
    def overalls(self) -> list[Overall]:
        """Every mechanism that is compared in at least two cells."""
        keys = dict.fromkeys(arm.key for cell in self.cells for arm in cell.arms if arm is not cell.baseline)
        found = [overall for key in keys if (overall := self._overall(key))]
        these = holm([self._over_looks(each.these.p_value) for each in found])
        like = holm([self._over_looks(each.like.p_value) if each.like else math.nan for each in found])
        corrected = [
            (math.nan, math.nan) if each.waiting else (p, q) for each, p, q in zip(found, these, like, strict=True)
        ]
        return [
            replace(each, family=len(found), these_p=p, like_p=q) for each, (p, q) in zip(found, corrected, strict=True)
        ]

    @cached_property
    def ranks(self) -> Ranks | None:
        """Of the arms that all cells have; None below six data sets."""
        sets = [[{arm.key: arm for arm in cell.arms} for cell in cells] for cells in self.datasets.values()]
        shared = [key for key in sets[0][0] if all(key in arms for cells in sets for arms in cells)]
        rows = [[np.mean([arms[key].sample.merits.mean() for arms in cells]) for key in shared] for cells in sets]
        return ranks([sets[0][0][key].name for key in shared], np.array(rows))

    @property
    def share(self) -> float:
        """The part of the error that the present look may spend: the least of its cells; 1 where that is not known.

        Where fewer data sets were told before, no more than a look that nobody planned.
        """
        least = min((float(cell.spending.parts[-1]) for cell in self.cells if cell.spending), default=1.0)
        return min(least, float(Spending.open(range(self.told)).parts[-1])) if self.told > 1 else least

    def _over_looks(self, p: float) -> float:
        return float(np.minimum(1.0, p / self.share))  # a nan stays

    def _overall(self, key: Hashable) -> Overall | None:
        """A mechanism over the cells that compare it; None where they are fewer than two."""
        contrasts = {name: found for name, cells in self.datasets.items() if (found := _compared(cells, key))}
        every = [each for found in contrasts.values() for each in found]
        if len(every) < 2:
            return None
        level = ALPHA * self.share
        sets = tuple(_on_one(name, found, level) for name, found in contrasts.items())
        weighted = [one for found in contrasts.values() for one in _weighted(found, 1 / len(contrasts))]
        gaps, errors, freedoms = np.array([(one.difference.mean, one.error, one.freedom) for one in sets]).T
        return Overall(
            arm=every[0].arm,
            measure=self.measure,
            sets=sets,
            these=on_these(weighted, every[0].pairing, level),
            like=random_effects(gaps, errors, freedoms, level) if len(sets) > 1 else None,
            superiority=superiority([(each.one.merits, each.two.merits) for each in every]),
            waiting=key in self.absent or any(each.verdict.waiting for each in every),
        )


def _compared(cells: Sequence[Cell], key: Hashable) -> list[Contrast]:
    """A mechanism against the baseline in those of the cells that compare the two and have runs of both."""
    found = (arm.contrast for cell in cells for arm in cell.arms if arm.key == key and arm.contrast)
    return [each for each in found if len(each.one.seeds) and len(each.two.seeds)]


def _on_one(name: str, found: Sequence[Contrast], level: float) -> OnOne:
    mean, error, freedom = added(_weighted(found), found[0].pairing)
    alone = found[0].difference
    low, high = around(mean, error, freedom, level) if len(found) > 1 else (alone.low, alone.high)
    runs = sum(len(each.one.seeds) for each in found)
    return OnOne(name, len(found), Estimate(mean, low, high, runs), error, freedom)


def _weighted(found: Sequence[Contrast], whole: float = 1.0) -> list[Stratum]:
    """Cells of one data set, each with an equal share of its weight."""
    return [Stratum(each.one.values, each.two.values, whole / len(found), each.one.step) for each in found]


def across(cells: Sequence[Cell], told: int = 1, absent: frozenset[Hashable] = frozenset()) -> list[Across]:
    """What cells say together, those of each measure for themselves; of a single cell nothing.

    Args:
        told, absent: as in `Across`.
    """
    groups: dict[tuple[str, str, bool], list[Cell]] = {}
    for cell in cells:
        if cell.baseline is not None:
            groups.setdefault((cell.measure.name, cell.measure.unit, cell.measure.higher_is_better), []).append(cell)
    return [Across(tuple(group), told, absent) for group in groups.values() if len(group) > 1]
