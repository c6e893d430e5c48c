"""How often statements over several data sets are right: simulated studies whose truth is known.

    python benchmarks/across_coverage.py --quick            # minutes; 300 studies a setting
    python benchmarks/across_coverage.py --write            # 2,000 studies a setting, tables into docs/statistics.md

Accuracies are normal over seeds. The true differences of an arm and the baseline vary between data sets with standard
deviation tau, told in standard errors of one data set's difference; seeds spread differently on different data sets.
Exit code 1 where something that must hold does not.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from simulated_studies import WIDE
from verdict_coverage import Limits, Outcome, main

from attnbench.analysis.across import Across, Overall, across
from attnbench.analysis.cells import Cell, cell_of
from attnbench.analysis.plan import Plan
from attnbench.analysis.sample import Sample
from attnbench.analysis.stats import ALPHA

SPREAD = 0.5
"""Of accuracy between seeds on a typical data set, in points."""
TAU = {"none": 0.0, "moderate": 1.0, "large": 3.0}
"""By how many standard errors of one data set's difference its truth lies off the mean over data sets."""
SPREADS = {"alike": 0.0, "different": 0.5, "very different": 1.2}
"""Standard deviation between data sets of the log spread between seeds."""


def simulated(truths: np.ndarray, spreads: np.ndarray, seeds: tuple[int, int], rng: np.random.Generator) -> Across:
    """What is made of data sets x arms whose true differences to the baseline are these.

    Args:
        spreads: between seeds, data sets x (arm, baseline).
        seeds: of an arm and of the baseline.
    """
    cells = [_cell(f"set {place}", truths[place], spreads[place], seeds, rng) for place in range(len(truths))]
    return across(cells)[0]


def _cell(name: str, truths: np.ndarray, spreads: np.ndarray, seeds: tuple[int, int], rng: np.random.Generator) -> Cell:
    n, n_baseline = seeds
    samples = {"none": Sample("none", tuple(range(n_baseline)), rng.normal(75, spreads[1], n_baseline))}
    for place, truth in enumerate(truths):
        arm = f"arm{place}"
        samples[arm] = Sample(arm, tuple(range(n)), rng.normal(75 + truth, spreads[0], n))
    return cell_of(name, samples, Plan(margin=WIDE))


def world(sets: int, spread: str, rng: np.random.Generator) -> np.ndarray:
    """Spreads between seeds of data sets x (arm, baseline), the same for both."""
    return SPREAD * np.exp(rng.normal(0, SPREADS[spread], (sets, 1))) * np.ones(2)


def others(found: Overall) -> dict[str, tuple[float, float]]:
    """Intervals that attnbench does not report, of the same differences."""
    gaps = np.array([one.difference.mean for one in found.sets])
    variances = np.square([one.error for one in found.sets])
    k, plain = len(gaps), stats.sem(gaps)
    weights = 1 / variances
    q = weights @ (gaps - weights @ gaps / weights.sum()) ** 2
    moment = max(0.0, (q - k + 1) / (weights.sum() - (weights**2).sum() / weights.sum()))
    t, z = stats.t.ppf(1 - ALPHA / 2, k - 1), stats.norm.ppf(1 - ALPHA / 2)
    normal = 1 / (variances + moment)
    shrunk = 1 / (variances + _restricted(gaps, variances))
    middle = shrunk @ gaps / shrunk.sum()
    factor = max(1.0, shrunk @ (gaps - middle) ** 2 / (k - 1))
    return {
        "REML, own variances": _ends(middle, t * np.sqrt(factor / shrunk.sum())),
        "DerSimonian and Laird": _ends(normal @ gaps / normal.sum(), z / np.sqrt(normal.sum())),
        "t over data sets": _ends(gaps.mean(), t * plain),
    }


def _ends(middle: float, half: float) -> tuple[float, float]:
    return middle - half, middle + half


def _restricted(gaps: np.ndarray, variances: np.ndarray) -> float:
    """The variance between data sets by restricted maximum likelihood, by its fixed point."""
    between = max(0.0, float(gaps.var(ddof=1) - variances.mean()))
    for _ in range(100):
        weights = 1 / (variances + between)
        middle = weights @ gaps / weights.sum()
        between = max(0.0, (weights**2 @ ((gaps - middle) ** 2 - variances)) / (weights**2).sum() + 1 / weights.sum())
    return float(between)


@dataclass(frozen=True)
class Like:
    """How often do the 95 % intervals for data sets like these hold the truth: of the mean, of a new one, of tau?"""

    sets: int
    seeds: int
    spreads: str
    tau: str
    skewed: bool = False
    """Whether most data sets gain a little and few much (exponential), or as many lie above as below (normal)."""

    def study(self, rng: np.random.Generator) -> Outcome:
        tau = TAU[self.tau] * SPREAD * np.sqrt(2 / self.seeds)
        drawn = rng.exponential(1, self.sets + 1) - 1 if self.skewed else rng.normal(0, 1, self.sets + 1)
        *truths, new = 1.0 + tau * drawn
        spreads = world(self.sets, self.spreads, rng)
        found = simulated(np.array(truths)[:, None], spreads, (self.seeds, self.seeds), rng).overalls[0]
        like, these = found.like, found.these
        assert like is not None
        held = {name: bool(low <= 1.0 <= high) for name, (low, high) in others(found).items()}
        return {
            "mean": like.low <= 1.0 <= like.high,
            "half width": (like.high - like.low) / 2,
            "a new data set": like.new.low <= new <= like.new.high,
            "tau": like.tau.low <= tau <= like.tau.high,
            "mean on these": bool(these.low <= np.mean(truths) <= these.high),
            **{f"mean: {name}": value for name, value in held.items()},
        }

    def limits(self) -> Limits:
        normal = {} if self.skewed else {"mean": (94.0, 100.0)}
        return normal | {"mean on these": (94.0, 100.0)}


@dataclass(frozen=True)
class Claims:
    """How often is an arm called better or worse: by a cell, over these data sets, for data sets like these?"""

    sets: int
    seeds: tuple[int, int]
    """Of an arm, and of the baseline."""
    spread: float
    """Of an arm between seeds, over that of the baseline."""
    arms: int
    apart: float
    """The difference of the first arm on every data set, in standard deviations between seeds; the others have none."""

    def study(self, rng: np.random.Generator) -> Outcome:
        truths = np.zeros((self.sets, self.arms))
        truths[:, 0] = self.apart * SPREAD
        spreads = SPREAD * np.tile([self.spread, 1.0], (self.sets, 1))
        found = simulated(truths, spreads, self.seeds, rng)
        counted = slice(0, 1) if self.apart else slice(None)
        verdicts = [[arm.contrast for arm in cell.arms[1:]][counted] for cell in found.cells]
        return {
            "some cell": any(each and each.verdict.kind in ("better", "worse") for own in verdicts for each in own),
            "on these": any(each.on_these != "undecided" for each in found.overalls[counted]),
            "for such": any(each.on_like != "undecided" for each in found.overalls[counted]),
        }

    def limits(self) -> Limits:
        return {} if self.apart else dict.fromkeys(("on these", "for such"), (0.0, 100 * ALPHA))


SETTINGS: Sequence[Like | Claims] = [
    *(Like(sets, 5, "different", tau) for sets in (3, 4, 8) for tau in TAU),
    *(Like(sets, 3, "different", tau) for sets in (4, 8) for tau in TAU),
    *(Like(8, 5, "very different", tau) for tau in TAU),
    *(Like(sets, 5, "different", "large", skewed=True) for sets in (4, 8)),
    *(Claims(sets, (5, 5), 1.0, arms, 0.0) for sets in (4, 10) for arms in (1, 3)),
    Claims(4, (20, 5), 0.5, 1, 0.0),
    Claims(4, (5, 20), 2.0, 1, 0.0),
    Claims(4, (5, 5), 2.0, 3, 0.0),
    *(Claims(sets, (5, 5), 1.0, arms, 1.0) for sets in (4, 10) for arms in (1, 3)),
]

if __name__ == "__main__":
    sys.exit(main(settings=SETTINGS, block="across", about=__doc__))
