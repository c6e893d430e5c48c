"""Which of many arms cannot be told from the best, and how far luck alone carries the largest of many means."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.analysis import stats
from attnbench.analysis.anytime import any_time_p
from attnbench.analysis.cells import Cell
from attnbench.analysis.laws import chi2_quantile, measured_spread
from attnbench.analysis.pairs import middle_unit
from attnbench.analysis.resampling import Values
from attnbench.analysis.sample import Sample
from attnbench.analysis.stats import ALPHA, contrast

FEWEST = 3
"""Of fewer candidates the verdict says all that there is to say."""


@dataclass(frozen=True)
class Best:
    """The arms of a cell that cannot be told from the best of them; controls take no part, the plain network does."""

    among: tuple[str, ...]
    """Those, the largest mean first."""
    candidates: tuple[str, ...]
    rivals: int
    """How many candidates there are beside the baseline."""
    luck: float
    """By how much the best of the rivals would be ahead on average if all arms were equal; nan where nothing tells."""


def best_of(cell: Cell) -> Best | None:
    """The set that holds the best candidate of a cell with 95 % confidence over all looks at it.

    None where there are fewer than three candidates, or verdicts are not given yet.
    """
    arms = sorted((arm for arm in cell.arms if not arm.control), key=lambda arm: -arm.sample.merits.mean())
    if len(arms) < FEWEST or cell.waiting:
        return None
    samples = [arm.sample for arm in arms]
    level = ALPHA * float(cell.spending.parts[-1]) if cell.spending else ALPHA
    if cell.plan.looks == "any":
        inside = among_best_any_time(_by_seed(samples))
    elif cell.plan.pairing == "paired":
        inside = among_best_pairs(_by_seed(samples), level)
    else:
        inside = among_best([sample.merits for sample in samples], samples[0].step, level)
    names = tuple(arm.name for arm in arms)
    rivals = [arm.sample for arm in arms if arm is not cell.baseline]
    spread = _spread(rivals, cell.baseline.sample if cell.baseline and cell.plan.pairing == "paired" else None)
    luck = expected_maximum([spread / math.sqrt(len(sample.seeds)) for sample in rivals])
    among = tuple(name for name, kept in zip(names, inside, strict=True) if kept)
    return Best(among, names, len(rivals), luck)


def among_best(arms: Sequence[np.ndarray], unit: float = 0.0, level: float = ALPHA) -> list[bool]:
    """Which independent arms cannot be told from the best: with 95 % confidence the truly best is among them.

    Multiple comparisons with the best (Gupta 1965, Hsu 1984): an arm is out where another is better by a one-sided
    test at a level that holds for one arm against all its rivals (Dunnett 1955), with the error and degrees of freedom
    of the two. No arm's spread counts for less than that of the arm in the middle, as in `pairs.simultaneous`.

    Args:
        arms: the values of each, larger is better. One or two neither are out nor put out: they tie too easily.
        unit: the smallest step that a value can make.
    """
    rivals, middle = len(arms) - 1, middle_unit(arms, unit)

    def beats(other: np.ndarray, arm: np.ndarray) -> bool:
        if min(len(other), len(arm)) < stats.FEWEST or other.mean() <= arm.mean():
            return False
        gap, error, freedom = contrast(other, arm, unit=middle)
        return _significant(gap, error, freedom, rivals, level)

    return _unbeaten(arms, beats)


def among_best_pairs(rows: Sequence[np.ndarray], level: float = ALPHA) -> list[bool]:
    """The same over pairs: Student's one-sided t of the differences at equal seeds, with Sidak's correction.

    Args:
        rows: the values of each arm, equal seeds at equal places, nan where a seed is missing.
    """
    from scipy.special import stdtr

    level = 1 - (1 - level) ** (1 / max(len(rows) - 1, 1))

    def beats(other: np.ndarray, arm: np.ndarray) -> bool:
        both = ~np.isnan(other + arm)
        gap, error, freedom = contrast(other[both], arm[both], "paired")
        if both.sum() < stats.FEWEST or gap <= 0:
            return False
        return error == 0 or bool(stdtr(freedom, -gap / error) < level)

    return _unbeaten(rows, beats)


def among_best_any_time(rows: Sequence[np.ndarray]) -> list[bool]:
    """The same where every run is a look: a bet on the signs of differences at equal seeds, in order (Bonferroni).

    Args:
        rows: as for `among_best_pairs`.
    """

    def beats(other: np.ndarray, arm: np.ndarray) -> bool:
        gaps = (other - arm)[~np.isnan(other - arm)]
        return len(gaps) > 1 and any_time_p(gaps, 1)[-1] * (len(rows) - 1) < ALPHA

    return _unbeaten(rows, beats)


def dunnett_p(gap: float, error: float, freedom: float, rivals: int) -> float:
    """One-sided p of a difference that is the largest of so many arms' with one, by Dunnett (1955).

    The differences go together by 1/2, as where all arms have the same standard error. Normal over the one arm's error
    by Gauss and Hermite, and over 400 equally likely sizes of the spread.
    """
    from scipy.special import ndtr

    if gap <= 0:
        return 1.0
    if error == 0:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    below = ndtr(math.sqrt(2) * gap / error * measured_spread(freedom, 400)[:, None] + nodes) ** rivals
    return float(1 - below.mean(0) @ weights / weights.sum())


def expected_maximum(errors: Values) -> float:
    """What the largest of m independent normal means is expected to be, whose truths are all 0.

    Args:
        errors: their standard errors. The largest of 30 equal ones lies 2.04 of them above 0.
    """
    from scipy.integrate import quad
    from scipy.special import ndtr

    sizes = np.asarray(errors, float)
    unit = float(sizes.max())
    if not unit > 0:
        return unit  # 0, or nan where nobody knows

    def excess(x: float) -> float:
        """P(largest > x) - P(largest < -x), whose integral is the mean."""
        return float(1 - np.prod(ndtr(x * unit / sizes)) - np.prod(ndtr(-x * unit / sizes)))

    return unit * float(quad(excess, 0, 10)[0])


def _significant(gap: float, error: float, freedom: float, rivals: int, level: float) -> bool:
    """Whether `dunnett_p` is below it, computed only where its bounds, a single t's p and Sidak's, leave it open."""
    from scipy.special import stdtr

    if gap <= 0 or error == 0:
        return gap > 0
    alone = float(stdtr(freedom, -gap / error))
    if alone >= level or 1 - (1 - alone) ** rivals < level:
        return alone < level
    return dunnett_p(gap, error, freedom, rivals) < level


def _unbeaten(arms: Sequence[np.ndarray], beats: Callable[[np.ndarray, np.ndarray], bool]) -> list[bool]:
    """Of which arms no other says that it beats them; the likeliest is asked first."""
    known = sorted((arm for arm in arms if len(arm)), key=lambda arm: -np.nanmean(arm))
    return [not any(beats(other, arm) for other in known if other is not arm) for arm in arms]


def _by_seed(samples: Sequence[Sample]) -> list[np.ndarray]:
    """Their merits, equal seeds at equal places, nan where a seed is missing."""
    seeds = sorted({seed for sample in samples for seed in sample.seeds})
    known = [dict(zip(sample.seeds, sample.merits, strict=True)) for sample in samples]
    return [np.array([values.get(seed, math.nan) for seed in seeds]) for values in known]


def _spread(samples: Sequence[Sample], baseline: Sample | None) -> float:
    """Standard deviation between seeds of the arm in the middle, whose median of variances is freed of its bias.

    Of pairs it is what equal seeds do not share: half the variance of their differences to the baseline.
    """
    found = []
    for sample in samples:
        values, parts = sample.values, 1
        if baseline is not None:
            mine, theirs = _by_seed([sample, baseline])
            values, parts = (mine - theirs)[~np.isnan(mine + theirs)], 2
        if (freedom := len(values) - 1) > 0:
            found.append(float(values.var(ddof=1)) / parts * freedom / float(chi2_quantile(0.5, freedom)))
    return math.sqrt(float(np.median(found))) if found else math.nan
