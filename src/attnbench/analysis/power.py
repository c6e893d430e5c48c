"""What a design can say, before training and after: the smallest p, detectable differences, and how many more seeds."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from attnbench.analysis.laws import measured_spread, noncentral_t_tail, t_quantile
from attnbench.analysis.resampling import FLIPS_UP_TO, RESAMPLES, Pairing, counted, exact
from attnbench.analysis.sequential import Spending
from attnbench.analysis.stats import ALPHA, FEWEST

POWER = 0.8
MOST_SEEDS = 1_000
"""Beyond this many seeds an arm nobody is asked for more."""
PLACES = 40
"""Equally likely sizes of a spread over which a power is averaged."""


@lru_cache(maxsize=4096)
def smallest_p(n: int, m: int, pairing: Pairing = "independent") -> float:
    """The smallest two-sided p that N and M seeds can reach; 1 below two seeds an arm.

    Args:
        n, m: seeds of the two arms; equal where they are pairs.
    """
    if min(n, m) < 2:
        return 1.0
    if pairing == "paired":
        return 2 / 2**n if n <= FLIPS_UP_TO else 1 / (RESAMPLES + 1)
    return (2 if n == m else 1) / math.comb(n + m, n) if exact(n, m) else 1 / (RESAMPLES + 1)


def can_decide(n: int, m: int, family: int = 1, pairing: Pairing = "independent", level: float = ALPHA) -> bool:
    """Whether any outcome could be *better* or *worse* in a family of so many comparisons."""
    return smallest_p(n, m, pairing) * family < level


def seeds_to_decide(family: int = 1, pairing: Pairing = "independent", level: float = ALPHA) -> int:
    """The fewest seeds an arm at which *better* and *worse* can be reached at all."""
    return next((n for n in range(2, MOST_SEEDS) if can_decide(n, n, family, pairing, level)), MOST_SEEDS)


Sizes = Sequence[tuple[int, int]]
"""How many runs of either arm the looks have seen, growing."""


def smallest_p_over(looks: Sizes, pairing: Pairing = "independent") -> float:
    """The smallest p that the last of some looks can reach, whose runs are regrouped within what each look added."""
    blocks = [(n - a, m - b) for (a, b), (n, m) in itertools.pairwise([(0, 0), *looks])]
    if len(blocks) == 1 or pairing == "paired":
        return smallest_p(*looks[-1], pairing)
    if not counted(blocks):
        return 1 / (RESAMPLES + 1)
    ways = math.prod(math.comb(n + m, n) for n, m in blocks)
    return (2 if all(n == m for n, m in blocks) else 1) / ways


def fewest_seeds(
    spending: Spending | None, family: int = 1, pairing: Pairing = "independent", sizes: Sizes = ()
) -> int | None:
    """Where no outcome could be *better* or *worse* at the last of some looks: the fewest seeds at which one could.

    A look that cannot decide leaves its part of the error to the next.

    Args:
        sizes: how many runs of either arm these looks saw; not given where they are as many as `spending` says.
    """
    if spending is None:
        return None
    *before, (n, m) = sizes or [(seeds, seeds) for seeds in spending.seeds]
    level = ALPHA * float(spending.parts[-1])

    def decides(seeds: int) -> bool:
        return smallest_p_over([*before, (max(n, seeds), max(m, seeds))], pairing) * family < level

    return None if decides(0) else next(filter(decides, range(min(n, m) + 1, MOST_SEEDS)), MOST_SEEDS)


def open_looks(seeds: Sequence[int], family: int, pairing: Pairing) -> list[int]:
    """Which looks that nobody planned can decide, and the last one whether it can or not: their places."""
    kept: list[int] = []
    for place, n in enumerate(seeds):
        looks = Spending.open([*(seeds[each] for each in kept), n])
        if place == len(seeds) - 1 or fewest_seeds(looks, max(family, 1), pairing) is None:
            kept.append(place)
    return kept


def able(looks: Sequence[int], family: int, pairing: Pairing) -> Spending:
    """The planned looks at which a family of so many comparisons can decide; the last one where none can."""
    whole = Spending.plan(looks)
    kept = whole.merged(lambda n: smallest_p(n, n, pairing), ALPHA / max(family, 1))
    return kept if kept.seeds else Spending.plan(looks[-1:])


def detectable(
    n: int,
    m: int,
    family: int = 1,
    pairing: Pairing = "independent",
    power: float = POWER,
    level: float = ALPHA,
) -> float:
    """The smallest true difference found *better* with the given probability, in standard deviations between seeds.

    Student's t test with the first step of Holm's correction (Cohen 1988), and no more than what the permutation test
    finds where only the most extreme regrouping is rare enough; infinite where the design cannot decide.
    For pairs the standard deviation is that of the pairs' differences.
    """
    from scipy.optimize import brentq

    if not can_decide(n, m, family, pairing, level):
        return math.inf
    most = 1e4 * _unit_error(n, m, pairing)
    size: float = brentq(lambda d: float(_power(d, n, m, pairing, level / family)) - power, 0.0, most)
    return size


def probability(
    size: float, n: int, m: int, family: int = 1, pairing: Pairing = "independent", level: float = ALPHA
) -> float:
    """How often a true difference of so many standard deviations is found; 0 where the design cannot decide."""
    if not can_decide(n, m, family, pairing, level):
        return 0.0
    return float(_power(size, n, m, pairing, level / family))


def equivalence_spread(
    n: int, m: int, margin: float, family: int = 1, pairing: Pairing = "independent", level: float = ALPHA
) -> float:
    """The largest standard deviation between seeds at which equivalence could pass, with equal means.

    0 below three seeds an arm, which are never called equivalent.
    """
    if min(n, m) < FEWEST:
        return 0.0
    bound = t_quantile(1 - level / family, _freedom(n, m, pairing))
    return margin / (bound * _unit_error(n, m, pairing))


def further_seeds(
    spread: float,
    freedom: float,
    n: int,
    margin: float,
    family: int = 1,
    pairing: Pairing = "independent",
    levels: Callable[[int], tuple[float, float]] | None = None,
) -> int | None:
    """How many more seeds an arm decide with 80 % probability; None where even a thousand in all do not.

    Decide means both: *better* or *worse* where the true difference is the margin, *equivalent* where there is none.
    The observed difference plays no part. What is known of the spread is its estimate with `freedom` degrees of
    freedom, over whose uncertainty the power is averaged (assurance: O'Hagan et al. 2005).

    Args:
        spread: estimated standard deviation between seeds, in points; of the pairs' differences where paired.
        n: seeds an arm so far.
        levels: of so many seeds an arm, the levels at which a difference and equivalence are tested there; None for
            those of a first and only look.
    """
    if not math.isfinite(spread) or freedom < 1:
        return None
    plain = (ALPHA / family, ALPHA / family)
    later = _Later(spread * _quantiles_of_truth(freedom), margin, pairing, levels or (lambda seeds: plain))
    if n >= MOST_SEEDS or not later.decides(MOST_SEEDS):
        return None
    enough = _first(later.same, n, MOST_SEEDS)
    return (enough if later.decides(enough) else _first(later.decides, enough, MOST_SEEDS)) - n


@dataclass(frozen=True)
class _Later:
    """A study of so many seeds an arm."""

    spreads: np.ndarray
    """What the standard deviation between seeds may be."""
    margin: float
    pairing: Pairing
    levels: Callable[[int], tuple[float, float]]

    def same(self, seeds: int) -> bool:
        """Whether it finds equivalence, which costs less to know than whether it finds a difference."""
        differs, same = self.levels(seeds)
        if seeds < FEWEST or smallest_p(seeds, seeds, self.pairing) >= differs:
            return False
        errors, freedom = self.spreads * _unit_error(seeds, seeds, self.pairing), _freedom(seeds, seeds, self.pairing)
        return float(np.mean(_equivalent(self.margin, errors, freedom, same))) >= POWER

    def decides(self, seeds: int) -> bool:
        """Whether it finds equivalence where there is no difference, and a difference of the margin."""
        sizes, (differs, _) = self.margin / np.maximum(self.spreads, 1e-12), self.levels(seeds)
        return self.same(seeds) and float(np.mean(_power(sizes, seeds, seeds, self.pairing, differs))) >= POWER


def _first(holds: Callable[[int], bool], few: int, many: int) -> int:
    """The first number above `few` for which something holds that holds for `many`, and for all above the first."""
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if holds(middle) else (middle, many)
    return many


def _quantiles_of_truth(freedom: float) -> np.ndarray:
    """True over estimated standard deviation at equally likely places, the largest first."""
    found: np.ndarray = 1 / measured_spread(freedom, PLACES)
    return found


def _power(size: float | np.ndarray, n: int, m: int, pairing: Pairing, level: float) -> np.ndarray:
    """Probability that a difference of `size` standard deviations is found at a level, by both tests.

    The t test's, or that the arms lie wholly apart where no other regrouping is as rare as the level asks.
    """
    found = _found(size / _unit_error(n, m, pairing), _freedom(n, m, pairing), level)
    if pairing == "paired" or level >= 2 * smallest_p(n, m):
        return found
    both: np.ndarray = np.minimum(found, _apart(size, n, m))
    return both


def _apart(size: float | np.ndarray, n: int, m: int) -> np.ndarray:
    """Probability that every run of the better arm is above every run of the other: N and M normal values."""
    from scipy.special import ndtr

    return np.asarray((ndtr(np.asarray(size, float)[..., None] - _largest(m)) ** n).mean(-1))


@lru_cache(maxsize=256)
def _largest(m: int) -> np.ndarray:
    """The largest of M standard normal values at 400 equally likely places."""
    from scipy.special import ndtri

    found: np.ndarray = ndtri(((np.arange(400) + 0.5) / 400) ** (1 / m))
    return found


def _found(size: float | np.ndarray, freedom: float, level: float) -> np.ndarray:
    """Probability that |t| exceeds its bound where the true difference is `size` standard errors."""
    from scipy.special import ndtr

    bound = t_quantile(1 - level / 2, freedom)
    size = np.asarray(size, float)
    far = ndtr(size - bound)  # where scipy's noncentral t has no number any more
    exact = noncentral_t_tail(bound, freedom, np.minimum(size, 30.0))
    found: np.ndarray = np.where(size < 30.0, np.nan_to_num(exact, nan=1.0), far)
    return found


def _equivalent(margin: float, errors: np.ndarray, freedom: int, level: float) -> np.ndarray:
    """Probability that both one-sided tests reject where there is no difference, over the measured error's law."""
    from scipy.special import ndtr

    bound, measured = t_quantile(1 - level, freedom), measured_spread(freedom, PLACES)
    room = margin / np.maximum(errors, 1e-12)[:, None] - bound * measured
    found: np.ndarray = np.maximum(2 * ndtr(room) - 1, 0.0).mean(1)
    return found


def _unit_error(n: int, m: int, pairing: Pairing) -> float:
    """Standard error of the difference, in standard deviations."""
    return math.sqrt(1 / n) if pairing == "paired" else math.sqrt(1 / n + 1 / m)


def _freedom(n: int, m: int, pairing: Pairing) -> int:
    """Degrees of freedom of equal spreads; of arms of unequal size those of the smaller one, as `contrast` has it."""
    return n + m - 2 if pairing == "independent" and n == m else min(n, m) - 1
