"""Numbers and columns as words: the same on the console, the page, in Markdown and in LaTeX."""

import math
from typing import NamedTuple

from attnbench.analysis.cells import Arm
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.measure import ACCURACY, Measure
from attnbench.analysis.stats import ALPHA, Correlation, Difference, Estimate
from attnbench.analysis.verdicts import Verdict

OPEN = ("undecided", "not yet")
"""Answers that claim nothing."""


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign; `-` where there is none."""
    return "-" if math.isnan(value) else f"{value:+.{decimals}f}"


def p_text(value: float) -> str:
    """A p value to three decimals, of one just below the level that it is; `-` where there is none."""
    if math.isnan(value):
        return "-"
    if value < 0.001:
        return "< 0.001"
    return "< 0.050" if value < ALPHA <= round(value, 3) else f"{value:.3f}"


def interval(low: float, high: float, plus: bool = False, decimals: int = 2) -> str:
    """`[low, high]`; `-` where one seed cannot tell."""
    if math.isnan(low):
        return "-"
    form = f"{'+' * plus}.{decimals}f"
    return f"[{low:{form}}, {high:{form}}]"


def spread(found: Estimate | Difference | Correlation | None, plus: bool = False, decimals: int = 2) -> str:
    """The interval of a value; `-` where there is none."""
    return interval(found.low, found.high, plus, decimals) if found else "-"


def points(value: float) -> str:
    """`1 point`, `0.5 points`."""
    return ACCURACY.amount(value)


def counted(number: int, what: str) -> str:
    """`1 seed`, `4 seeds`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def columns(comparison: Comparison) -> list[str]:
    """The heads of the columns that every table of arms has."""
    heads = {cell.measure.head for cell in comparison.cells} or {ACCURACY.head}
    score = heads.pop() if len(heads) == 1 else Measure.head
    both = ["this test set", "new images"] if comparison.recorded else ["95 % interval"]
    arm = "attention" if comparison.recorded else "arm"
    return [arm, "n", score, *both, f"to {comparison.baseline}", *both, "p", "equivalence", "verdict"]


class Entry(NamedTuple):
    """What stands in a column of a table of arms."""

    text: str
    key: object
    """What its rows are sorted by."""
    coloured: bool = False
    """Whether it takes the colour of the verdict."""


def entries(arm: Arm) -> list[Entry]:
    """An arm in those columns; those that compare are empty for the baseline."""
    places, score, found = arm.sample.measure.decimals, arm.score, arm.contrast
    failed = f" ({len(arm.failed)} failed)" if arm.failed else ""
    own = [Entry(arm.name, arm.name.lower()), Entry(f"{score.n}{failed}", score.n)]
    own += [Entry(f"{score.mean:.{places}f}", score.mean), *_spans(arm, arm.score, arm.new_images)]
    if found is None:
        return [*own, *[Entry("", "")] * (len(own) + 1)]
    gap, verdict, word = found.difference, found.verdict, kind(found.verdict)
    return [
        *own,
        Entry(signed(gap.mean, places), gap.mean, coloured=True),
        *_spans(arm, gap, found.new_images, plus=True),
        Entry(p_text(verdict.p_value), verdict.p_value),
        Entry(p_text(verdict.equivalence_p), verdict.equivalence_p),
        Entry(word, word, coloured=True),
    ]


def kind(verdict: Verdict) -> str:
    """The answer in a word or two."""
    return "not yet" if verdict.waiting else verdict.kind


def arm_row(arm: Arm) -> list[str]:
    """The texts of an arm in those columns."""
    return [entry.text for entry in entries(arm)]


def verdict_rows(comparison: Comparison) -> list[list[str]]:
    """The table of all arms as texts, its heads first: to be compared with another one, in an order of its own."""
    rows = [[cell.name, *arm_row(arm)] for cell in comparison.cells for arm in cell.arms]
    return [["cell", *columns(comparison)], *sorted(rows)]


def _spans(arm: Arm, here: Estimate | Difference, new: Estimate | None, plus: bool = False) -> list[Entry]:
    """The intervals for this test set and, where there may be predictions, for new images."""
    places = arm.sample.measure.decimals
    known = [Entry(spread(here, plus, places), here.low)]
    return [*known, Entry(spread(new, plus, places), new.low if new else "")] if arm.recorded else known
