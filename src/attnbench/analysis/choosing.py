"""The best of many: successive halving on cheap scores, and what the confirmation of its survivors lets one say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.cells import Arm, Cell
from attnbench.spec.contest import Rung

Score = Callable[[Rung, Sequence[str]], Mapping[str, Sequence[float]]]
"""Trains some arms as a rung says, and gives each one's scores on validation images, seed by seed."""


@dataclass(frozen=True)
class Round:
    """A rung as it came out."""

    rung: Rung
    scores: Mapping[str, tuple[float, ...]]
    """Every arm and the baseline: accuracy on validation images in percent, seed by seed."""
    kept: tuple[str, ...]
    """The arms that go on, the best first."""

    def mean(self, arm: str) -> float:
        """An arm's mean score in percent."""
        return float(np.mean(self.scores[arm]))


def halved(arms: Sequence[str], baseline: str, rungs: Sequence[Rung], score: Score) -> list[Round]:
    """Successive halving: in each rung the arms with the highest mean score go on; of equal ones the one named first.

    The baseline is scored beside them and never leaves.
    """
    left, rounds = tuple(arms), []
    for rung in rungs:
        found = {arm: tuple(scores) for arm, scores in score(rung, [baseline, *left]).items()}
        means = {arm: float(np.mean(found[arm])) for arm in left}
        left = tuple(sorted(left, key=lambda arm: -means[arm])[: rung.kept])
        rounds.append(Round(rung, found, left))
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


def answer(cell: Cell, best: Sequence[bool]) -> Answer:
    """What a confirmation says.

    Args:
        best: for each arm of the cell, whether it cannot be told from the best.
    """
    better = [arm for arm in cell.arms if arm.contrast is not None and arm.contrast.verdict.kind == "better"]
    among = [arm for arm, whether in zip(cell.arms, best, strict=True) if whether]
    return Answer(
        cell,
        max(better, key=_mean, default=None),
        tuple(sorted(among, key=_mean, reverse=True)),
    )


def _mean(arm: Arm) -> float:
    return arm.score.mean
