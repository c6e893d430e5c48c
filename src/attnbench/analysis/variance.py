"""A variance budget: how much each source of chance alone moves an accuracy, and what pairing by seeds would save."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.laws import chi2_quantile
from attnbench.analysis.resampling import Values
from attnbench.analysis.stats import ALPHA, Correlation, correlation
from attnbench.store.runs import RunRecord

TOGETHER = "all"


@dataclass(frozen=True)
class Deviation:
    """A standard deviation in points with its 95 % interval, which is nan below two values."""

    points: float
    low: float
    high: float
    mean: float
    n: int


@dataclass(frozen=True)
class Budget:
    """What moves the accuracy of one arm in one cell."""

    cell: str
    parts: dict[str, Deviation]
    """Source -> its deviation with all others held; `all`: those that a study's seeds vary, together."""
    binomial: float
    """Standard deviation in points that another test set of the size would add: no seed shows it."""
    images: int
    pairs: dict[str, Correlation]
    """Other arm -> how its accuracies go with this one's at equal seeds."""
    without: dict[str, str]
    """Source that has no effect here -> why."""
    failed: int
    """Runs that failed, and are left out."""

    @property
    def together(self) -> Deviation:
        """All that a study's seeds vary."""
        return self.parts[TOGETHER]

    def share(self, source: str) -> float:
        """The variance of a source alone over that of all together; nan where nothing varies."""
        whole = self.together.points
        return (self.parts[source].points / whole) ** 2 if whole else math.nan


def deviation(values: Values) -> Deviation:
    """Standard deviation with the chi-square interval of normal values.

    Args:
        values: N numbers, one per seed.
    """
    sample = np.asarray(values, float)
    n, mean = len(sample), float(sample.mean()) if len(sample) else math.nan
    if n < 2:
        return Deviation(math.nan, math.nan, math.nan, mean, n)
    spread = float(sample.std(ddof=1))
    low, high = (math.sqrt((n - 1) / float(chi2_quantile(at, n - 1))) for at in (1 - ALPHA / 2, ALPHA / 2))
    return Deviation(spread, low * spread, high * spread, mean, n)


def budget(
    cell: str,
    records: Mapping[str, Sequence[RunRecord]],
    others: Mapping[str, Sequence[RunRecord]],
    without: Mapping[str, str],
) -> Budget:
    """The budget of one arm.

    Args:
        records: source, or `all` -> the runs in which it is varied; at least one of `all` is done.
        others: other arm of the cell -> its runs.
        without: sources that have no effect, and why.
    """
    parts = {source: deviation([run.accuracy for run in runs if run.done]) for source, runs in records.items()}
    own = {run.spec["seed"]: run.accuracy for run in records[TOGETHER] if run.done}
    pairs = {}
    for arm, runs in others.items():
        theirs = {run.spec["seed"]: run.accuracy for run in runs if run.done}
        both = sorted(own.keys() & theirs.keys())
        if len(both) > 2:
            pairs[arm] = correlation([own[seed] for seed in both], [theirs[seed] for seed in both])
    images = next(int(run.test["images"]) for run in records[TOGETHER] if run.done)
    right = parts[TOGETHER].mean / 100
    binomial = 100 * math.sqrt(right * (1 - right) / images)
    failed = len({run.id for runs in records.values() for run in runs if not run.done})
    return Budget(cell, parts, binomial, images, pairs, dict(without), failed)
