"""What a report concludes, at a glance: one sentence, and mechanisms against data sets with a small bar each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.costs import clock, costs
from attnbench.analysis.stats import Difference
from attnbench.console import joined
from attnbench.report.text import OPEN, counted, interval, kind, signed

WIDTH = 120.0
"""Of a bar, in the units that the page draws it in."""
MOST_NAMES = 12
"""Where more mechanisms were compared, the sentence counts them and names none."""
KINDS = ("better", "worse", "equivalent", *OPEN)
_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
TIMES = {"cpu": "CPU time", "device": "device time", "wall": "time"}


@dataclass(frozen=True)
class Bar:
    """An interval on the scale of its column; what lies beyond the scale ends in an arrow at the edge."""

    zero: float
    margin: tuple[float, float]
    low: float
    high: float
    at: float
    cut: tuple[bool, bool]
    """Whether the interval goes on to the left, and to the right."""


@dataclass(frozen=True)
class Answer:
    """What is said of an arm in a cell."""

    kind: str
    effect: str
    interval: str
    cost: str
    """Training time relative to the baseline; empty where that is not known."""
    bar: Bar | None


@dataclass(frozen=True)
class Row:
    """An arm with its answer in each cell, None where it was not run."""

    arm: str
    paper: str
    """Address of its paper; may be empty."""
    answers: tuple[Answer | None, ...]
    control: bool


def arranged(comparison: Comparison) -> Comparison:
    """The arms of every cell in one order: the baseline, mechanisms by their effect over all cells, then controls."""
    places = _places(comparison.cells)

    def key(cell: Cell, arm: Arm) -> tuple[bool, bool, float]:
        return (arm is not cell.baseline, arm.control, places[arm.name])

    cells = [replace(cell, arms=tuple(sorted(cell.arms, key=lambda arm: key(cell, arm)))) for cell in comparison.cells]
    return replace(comparison, cells=tuple(cells))


def rows(comparison: Comparison) -> list[Row]:
    """The matrix of an arranged comparison, controls last."""
    names = dict.fromkeys(arm.name for cell in comparison.cells for arm in cell.arms if arm.contrast)
    columns = [_answers(cell) for cell in comparison.cells]
    arms = {arm.name: arm for cell in comparison.cells for arm in cell.arms}
    found = [
        Row(name, _paper(arms[name]), tuple(column.get(name) for column in columns), arms[name].control)
        for name in sorted(names, key=_places(comparison.cells).__getitem__)
    ]
    return sorted(found, key=lambda row: row.control)


def headline(comparison: Comparison) -> str:
    """The verdicts of all mechanisms in a sentence or two; those of controls where nothing else is compared."""
    every = [arm for cell in comparison.cells for arm in cell.arms if arm.contrast]
    compared = [arm for arm in every if not arm.control] or every
    found = {word: [arm for arm in compared if arm.contrast and kind(arm.contrast.verdict) == word] for word in KINDS}
    told = {word: arms for word, arms in found.items() if arms}
    if not told:
        return f"Nothing is compared with {comparison.baseline}."
    if len(comparison.cells) == 1 and len(compared) <= MOST_NAMES:
        words = [
            f"{_above(word, comparison.baseline)}: {joined([a.name for a in arms])}." for word, arms in told.items()
        ]
        return " ".join(words)
    counts = [f"{len(arms)} {'are' if len(arms) > 1 else 'is'} {word}" for word, arms in told.items()]
    return f"Of {counted(len(compared), 'comparison')} with {comparison.baseline} {joined(counts)}."


def timed_by(comparison: Comparison) -> str:
    """What the times of a matrix are; cells that were timed by different clocks have plain times."""
    found = {clock(cell) for cell in comparison.cells if cell.recorded}
    return TIMES[found.pop() if len(found) == 1 else "wall"]


def spent(comparison: Comparison) -> str:
    """How many runs stand behind a report, and what they cost; nothing of a time that is not known."""
    records = [record for cell in comparison.cells for arm in cell.arms for record in arm.records]
    clocks = {clock(cell) for cell in comparison.cells if cell.recorded}
    seconds = sum(record.train_seconds for record in records)
    runs = counted(sum(arm.score.n for cell in comparison.cells for arm in cell.arms), "run")
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size or size == 1)
    time = f"{seconds / size:,.0f}" if seconds >= 100 * size else f"{seconds / size:.3g}"
    return f"{runs}, {time} CPU {unit} of training" if clocks == {"cpu"} and seconds > 0 else runs


def _above(word: str, baseline: str) -> str:
    beside = {"better": f" than {baseline}", "worse": f" than {baseline}", "equivalent": f" to {baseline}"}
    return word.capitalize() + beside.get(word, "")


def _places(cells: Sequence[Cell]) -> dict[str, float]:
    """The mean rank of each arm's difference over the cells that have it, the best first."""
    ranks: dict[str, list[int]] = {}
    for cell in cells:
        sign = -1 if cell.measure.higher_is_better else 1
        gaps = {arm.name: sign * arm.difference.mean if arm.difference else math.inf for arm in cell.arms}
        for place, name in enumerate(sorted(gaps, key=lambda name: (math.isnan(gaps[name]), gaps[name], name))):
            ranks.setdefault(name, []).append(place)
    return {name: fmean(found) for name, found in ranks.items()}


def _answers(cell: Cell) -> dict[str, Answer]:
    known = {cost.arm: cost.seconds_ratio.mean for cost in costs(cell)}
    low, high = _scale(cell)
    decimals, found = cell.measure.decimals, {}
    for arm in cell.arms:
        if arm.contrast:
            gap, ratio = arm.contrast.difference, known.get(arm.name, math.nan)
            found[arm.name] = Answer(
                kind=kind(arm.contrast.verdict),
                effect=signed(gap.mean, decimals),
                interval=interval(gap.low, gap.high, True, decimals),
                cost="" if math.isnan(ratio) else f"x{ratio:.2f}",
                bar=_bar(gap, cell.plan.margin, low, high),
            )
    return found


def _scale(cell: Cell) -> tuple[float, float]:
    """The ends of a column's scale: margins and every mechanism's interval; controls may lie beyond it."""
    margin = cell.plan.margin
    gaps = [arm.difference for arm in cell.arms if arm.difference and not arm.control]
    ends = [end for gap in gaps for end in (gap.mean, gap.low, gap.high) if math.isfinite(end)]
    low, high = min([-1.2 * margin, *ends]), max([1.2 * margin, *ends])
    room = 0.04 * (high - low) or 1.0
    return low - room, high + room


def _bar(gap: Difference, margin: float, low: float, high: float) -> Bar | None:
    if math.isnan(gap.mean):
        return None
    ends = (gap.mean, gap.mean) if math.isnan(gap.low) else (gap.low, gap.high)

    def at(value: float) -> float:
        return round(WIDTH * (min(max(value, low), high) - low) / (high - low), 1)

    cut = (ends[0] < low, ends[1] > high)
    return Bar(at(0.0), (at(-margin), at(margin)), at(ends[0]), at(ends[1]), at(gap.mean), cut)


def _paper(arm: Arm) -> str:
    """The address in an arm's card, where it is one of the web: cards of own mechanisms may say anything."""
    address = str(arm.records[0].cards["attention"].get("url", "")) if arm.records else ""
    return address if address.startswith("https://") else ""
