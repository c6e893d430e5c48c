"""The best of many: successive halving on cheap scores, and what the confirmation of its survivors lets one say."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnbench.analysis.best import best_of
from attnbench.analysis.cells import Arm, Cell
from attnbench.spec.contest import Rung

Score = Callable[[Rung, Sequence[str]], Mapping[str, Sequence[float]]]
"""Trains some arms as a rung says, and gives each one's scores on validation images, seed by seed; nan of a failure."""


@dataclass(frozen=True)
class Round:
    """A rung as it came out."""

    rung: Rung
    scores: Mapping[str, tuple[float, ...]]
    """Every arm and the baseline: accuracy on validation images in percent, seed by seed; nan where the run failed."""
    kept: tuple[str, ...]
    """The arms that go on, the best first."""

    def mean(self, arm: str) -> float:
        """Mean score of an arm's runs in percent, without those that failed; nan where all did."""
        return float(np.mean(self.finished(arm))) if self.finished(arm) else math.nan

    def finished(self, arm: str) -> list[float]:
        """The scores of an arm's runs that did not fail."""
        return [score for score in self.scores[arm] if not math.isnan(score)]

    def order(self, arms: Iterable[str]) -> list[str]:
        """The highest mean first, of equal ones the one named first; behind them the arms of which a run failed."""
        failed = {arm: len(self.scores[arm]) - len(self.finished(arm)) for arm in arms}
        return sorted(failed, key=lambda arm: (failed[arm], -self.mean(arm)))


def halved(arms: Sequence[str], baseline: str, rungs: Sequence[Rung], score: Score) -> list[Round]:
    """Successive halving: in each rung the first in its order go on; the baseline is scored beside them all along."""
    left, rounds = tuple(arms), []
    for rung in rungs:
        found = Round(rung, {arm: tuple(scores) for arm, scores in score(rung, [baseline, *left]).items()}, ())
        left = tuple(found.order(left)[: rung.kept])
        rounds.append(replace(found, kept=left))
    return rounds


def promised(rounds: Sequence[Round], baseline: str) -> dict[str, float]:
    """Each screened arm's gain over the baseline in the last rung it was in, in points of validation accuracy."""
    return {arm: each.mean(arm) - each.mean(baseline) for each in rounds for arm in each.scores if arm != baseline}


@dataclass(frozen=True)
class Answer:
    """What is advised, by the confirmation alone."""

    cell: Cell
    winner: Arm | None
    """Of the arms confirmed to be better, the one with the highest mean; None: stay with the baseline."""
    best: tuple[Arm, ...]
    """The arms that cannot be told from the best, the highest mean first; the baseline may be among them."""


def answer(cell: Cell) -> Answer:
    """What a confirmation says; of two arms the verdict says which may be the best."""
    better = [arm for arm in cell.arms if arm.contrast is not None and arm.contrast.verdict.kind == "better"]
    found = best_of(cell)
    if found:
        among = [arm for arm in cell.arms if arm.name in found.among]
    else:
        worse = [arm for arm in cell.arms if arm.contrast is not None and arm.contrast.verdict.kind == "worse"]
        among = better or [arm for arm in cell.arms if arm not in worse]
    return Answer(cell, max(better, key=_mean, default=None), tuple(sorted(among, key=_mean, reverse=True)))


def _mean(arm: Arm) -> float:
    return arm.score.mean
