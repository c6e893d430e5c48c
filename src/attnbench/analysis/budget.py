"""What a budget pays for when the best of many is sought: rungs of screening, and the looks of a confirmation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.power import MOST_SEEDS, able, fewest_seeds, seeds_to_decide, smallest_p
from attnbench.errors import BudgetTooSmall
from attnbench.spec.contest import Contest, Rung

STEP = 1.5
"""Looks that the file does not give: the last at as many seeds as can be paid for, each other at so many times less."""
LOOKS = 3
"""The most looks that are set so."""

Price = Callable[[str, Rung | None], float]
"""What one run of an arm costs in the unit of the budget: in a rung, or at full length (None)."""


@dataclass(frozen=True)
class Outline:
    """What is going to be trained, and what it costs in the unit of the budget."""

    rungs: tuple[Rung, ...]
    rung_costs: tuple[float, ...]
    looks: tuple[int, ...]
    seed_cost: float
    """One seed of every confirmed arm and of the baseline."""

    @property
    def screening(self) -> float:
        """Cost of all rungs."""
        return sum(self.rung_costs)

    @property
    def confirmation(self) -> float:
        """Cost of the confirmation where no arm is decided before the last look."""
        return self.looks[-1] * self.seed_cost


def outlined(contest: Contest, arms: Sequence[str], price: Price) -> Outline:
    """What the budget pays for, before anything is trained.

    Which arms reach the later rungs is not known yet: they are counted at the mean price.

    Raises:
        BudgetTooSmall: no verdict can come of it.
    """

    def mean(rung: Rung | None) -> float:
        return float(np.mean([price(arm, rung) for arm in arms]))

    rungs, baseline = contest.rungs(len(arms)), contest.baseline_text
    costs = [rung.new * (rung.arms * mean(rung) + price(baseline, rung)) for rung in rungs]
    confirmed = min(contest.confirm, len(arms))
    each = confirmed * mean(None) + price(baseline, None)
    return Outline(tuple(rungs), tuple(costs), looks_within(contest, confirmed, sum(costs), each), each)


def looks_within(contest: Contest, family: int, screening: float, each: float) -> tuple[int, ...]:
    """The looks of the confirmation: those of the file, or what the rest of the budget pays for.

    Args:
        family: arms that are confirmed.
        screening: what screening costs, in the unit of the budget.
        each: what one seed of all confirmed arms and the baseline costs.

    Raises:
        BudgetTooSmall: it does not pay for the looks of the file, or for none that could decide anything.
    """
    most = max(0, min(math.floor((contest.amount - screening) / each + 1e-9), MOST_SEEDS))
    declared = contest.looks if isinstance(contest.looks, list) else []
    fewest = fewest_seeds(able(declared, family, contest.pairing), family, contest.pairing) if declared else None
    if fewest is not None:
        raise BudgetTooSmall(f"looks: {_reach(contest, declared[-1], family)}; give at least {fewest}")
    needed = declared[-1] if declared else seeds_to_decide(family, contest.pairing)
    if most < needed:
        raise BudgetTooSmall(_too_small(contest, family, screening, each, most, needed))
    return able(declared or sorted({round(most / STEP**back) for back in range(LOOKS)}), family, contest.pairing).seeds


def _reach(contest: Contest, seeds: int, family: int) -> str:
    p = min(1.0, smallest_p(seeds, seeds, contest.pairing) * family)
    return f"{seeds} seeds cannot decide among {family} arms (the smallest p that they can reach is {p:.3g})"


def _too_small(contest: Contest, family: int, screening: float, each: float, most: int, needed: int) -> str:
    """What a budget pays for, why that is too little, and what would do."""
    left = max(0.0, contest.amount - screening)
    why = f"{_reach(contest, most, family)}, " if most < seeds_to_decide(family, contest.pairing) else ""
    return (
        f"budget: of {contest.amount:g} {contest.unit} {_amount(left)} are left after screening, enough for {most} "
        f"seeds of {family + 1} arms; {why}{needed} seeds need {_amount(screening + needed * each)} {contest.unit} in "
        "all. Give more, or screen less, or confirm fewer"
    )


def _amount(value: float) -> str:
    """To two decimals, rounded up."""
    return f"{math.ceil(value * 100 - 1e-9) / 100:g}"
