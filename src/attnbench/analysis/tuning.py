"""What a search for a recipe found: trials and their scores on validation images, and what more of them would give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnbench.analysis.resampling import Values


@dataclass(frozen=True)
class Trial:
    """One run of a search."""

    number: int
    point: dict[str, Any]
    """Run fields with their values."""
    score: float
    """Accuracy in percent on validation images; chance level where the run failed."""
    run: str
    """Its id."""
    failed: bool = False


@dataclass(frozen=True)
class Tuned:
    """The trials of one arm in one cell."""

    cell: str
    """Data set and backbone."""
    arm: str
    picked: dict[str, Any]
    """Its values of the study's grid."""
    trials: Sequence[Trial]

    @property
    def best(self) -> Trial:
        """The first of those with the highest score; one that failed only where all did."""
        return max(self.trials, key=lambda trial: (not trial.failed, trial.score, -trial.number))

    @property
    def scores(self) -> list[float]:
        """In the order of the trials."""
        return [trial.score for trial in self.trials]


def expected_best(scores: Values) -> np.ndarray:
    """The expected highest score of n independent trials, n = 1 .. N (Dodge et al. 2019, Show Your Work, Eq. 4-6).

    Args:
        scores: N scores of points drawn at random.
    """
    ordered = np.sort(np.asarray(scores, float))
    total = len(ordered)
    below = np.arange(total + 1)[None, :] / total
    power = np.arange(1, total + 1)[:, None]
    weights: np.ndarray = np.diff(below**power, axis=1)
    found: np.ndarray = weights @ ordered
    return found


def best_so_far(scores: Values) -> np.ndarray:
    """The highest score of the first n trials, n = 1 .. N: for points that depend on earlier ones."""
    found: np.ndarray = np.maximum.accumulate(np.asarray(scores, float))
    return found
