"""The best of many arms in a sentence: which cannot be told from it, and how much of its lead is luck."""

import math

from attnbench.analysis.best import Best, best_of
from attnbench.analysis.cells import Cell

MOST_NAMES = 8
"""Where more arms cannot be told from the best, the first are named and the others counted."""


def best_sentence(cell: Cell) -> str:
    """The set that holds the best of a cell's arms, and the luck of the largest; nothing for fewer than three."""
    found = best_of(cell)
    if found is None:
        return ""
    where = f"{cell.name}: " if cell.name else ""
    return f"{where}{_set(found)} ({_confidence(cell)}){_luck(found, cell)}."


def _set(found: Best) -> str:
    count, names = len(found.candidates), list(found.among)
    if len(names) == count:
        return f"no arm of {count} is ruled out as the best"
    if len(names) == 1:
        return f"{names[0]} is the best of {count} arms"
    few = names if len(names) <= MOST_NAMES + 1 else [*names[:MOST_NAMES], f"{len(names) - MOST_NAMES} others"]
    return f"of {count} arms {', '.join(few[:-1])} and {few[-1]} cannot be told from the best"


def _confidence(cell: Cell) -> str:
    pairs = " over equal seeds as pairs" if cell.plan.pairing == "paired" else ""
    return f"with 95 % confidence: multiple comparisons with the best{pairs}"


def _luck(found: Best, cell: Cell) -> str:
    """The bias of the largest of many, as a clause; nothing where one seed an arm cannot tell it."""
    if math.isnan(found.luck):
        return ""
    sizes = sorted({len(arm.sample.seeds) for arm in cell.arms if not arm.control and arm is not cell.baseline})
    seeds = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    measure = cell.measure
    lead = f"{found.luck if measure.higher_is_better else -found.luck:+.{measure.decimals}f} {measure.steps}".rstrip()
    over = f"to {cell.baseline.name}" if cell.baseline else "to their mean"
    return (
        f"; the largest of {found.rivals} differences is partly luck: if all arms were equal, the best would show "
        f"about {lead} {over} at {seeds} seeds"
    )
