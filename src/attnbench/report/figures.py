"""The figures of a report: which there are, what each shows of a cell, its caption, and the same in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.costs import CLOCKS, clock, costs
from attnbench.analysis.stats import Difference, Estimate
from attnbench.report.evidence import curves, decomposition
from attnbench.report.text import kind, signed, spread

MOST_ROWS = 96
"""Where there are more rows, only those that are furthest out are drawn."""
MOST_POINTS = 2_000
"""Runs of a cell that are drawn at most."""
ENDLESS = " Left out: intervals that so few runs leave without an end."


@dataclass(frozen=True)
class Figure:
    """A chart, and what is said below it and to those who do not see it."""

    name: str
    """File name without its ending; also its anchor in the page."""
    title: str
    caption: str
    """What varied, which estimand, and n."""
    words: str
    """The figure as text."""
    chart: dict[str, Any]
    """A Vega-Lite specification."""


def figures(cell: Cell) -> list[Figure]:
    """The figures of a cell's scores, curves and costs that its records have numbers for."""
    groups = _groups(cell)
    made = [figure for of, arms in groups for figure in _differences(cell, of, arms)]
    made += [figure for of, arms in groups for figure in _seeds(cell, of, arms)]
    simple: list[Callable[[Cell], list[Figure]]] = [_curves, cost_figure, _controls]
    return [*made, *(figure for make in simple for figure in make(cell))]


def _groups(cell: Cell) -> list[tuple[str, list[Arm]]]:
    """Mechanisms and controls apart: one far out would leave no room for the differences of the others."""
    controls = [arm for arm in cell.arms if arm.control and arm is not cell.baseline]
    others = [arm for arm in cell.arms if arm not in controls]
    if not controls or not any(arm.contrast for arm in others):
        return [("", list(cell.arms))]
    return [("", others), ("controls", [*([cell.baseline] if cell.baseline else []), *controls])]


def _differences(cell: Cell, of: str, arms: Sequence[Arm]) -> list[Figure]:
    from attnbench.report.charts import intervals

    contrasts = sorted((arm.contrast for arm in arms if arm.contrast), key=lambda each: -each.difference.mean)
    spans = [
        (found, estimand, gap)
        for found in contrasts
        for estimand, gap in (("this test set", found.difference), ("new images", found.new_images))
        if gap is not None and not math.isnan(gap.low)
    ]
    rows: list[dict[str, Any]] = [
        {"arm": found.arm, "estimand": estimand, **_span(gap), "verdict": kind(found.verdict)}
        for found, estimand, gap in spans
        if math.isfinite(gap.low) and math.isfinite(gap.high)
    ]
    if not rows:
        return []
    endless = ENDLESS * (len(rows) < len(spans))
    places = cell.measure.decimals
    gaps = [(each.arm, each.difference) for each in contrasts]
    words = [f"{arm} {signed(gap.mean, places)} {spread(gap, plus=True, decimals=places)}" for arm, gap in gaps]
    margin, measure, order = cell.plan.margin, cell.measure, [each.arm for each in contrasts]
    caption = (
        f"{varied(cell)}. Difference of mean {measure.plural} to {cell.plan.baseline} with 95 % intervals"
        f"{' for both estimands' if cell.recorded else ''}, the largest first. "
        f"Dashed: the margin of {measure.amount(margin)}.{endless}"
    )
    chart = intervals(rows, "arm", order, above(cell), (-margin, margin), by="estimand")
    name, title = _called("differences", f"Difference to {cell.plan.baseline}", of)
    return [Figure(name, title, caption, "; ".join(words), chart)]


def _called(name: str, title: str, of: str) -> tuple[str, str]:
    """Name and title of a figure of all arms, or of some."""
    return (f"{name}-{of}", f"{title}: {of}") if of else (name, title)


def _seeds(cell: Cell, of: str, arms: Sequence[Arm]) -> list[Figure]:
    from attnbench.report.charts import strip

    room = max(1, MOST_POINTS // len(arms))
    few = f" Drawn are the first {room:,} of each arm." if any(arm.score.n > room for arm in arms) else ""
    rows = [{"arm": arm.name, "seed": seed, "value": value} for arm in arms for seed, value, _ in arm.runs[:room]]
    means, form = [{"arm": arm.name, "mean": arm.score.mean} for arm in arms], f".{cell.measure.decimals}f"
    words = [
        f"{arm.name} from {min(arm.values):{form}} to {max(arm.values):{form}}, mean {arm.score.mean:{form}}"
        for arm in arms
    ]
    caption = (
        f"Seed varied within a row; {seeds_of(cell)}. A point is the {cell.measure.name} of one run, the line its "
        f"row's mean.{' Estimand: this test set.' if cell.recorded else ''}{few}"
    )
    name, title = _called("seeds", "Every run", of)
    return [
        Figure(
            name, title, caption, "; ".join(words), strip(rows, means, [arm.name for arm in arms], cell.measure.axis)
        )
    ]


def _curves(cell: Cell) -> list[Figure]:
    from attnbench.report.charts import lines

    made, rows = [], curves(cell)
    splits = sorted({row["split"] for row in rows})
    images = "training images as the recipe augments them" if "train" in splits else ""
    images += (" (solid) and validation images (dashed)" if images else "validation images") if "val" in splits else ""
    whose = "training" if splits == ["train"] else "validation" if splits == ["val"] else "training and validation"
    for what, title in (("loss", f"{whose} loss"), ("accuracy", f"{whose} accuracy (%)")):
        kept = [row for row in rows if row["curve"] == what]
        if not kept:
            continue
        last = {f"{row['arm']} {row['split']}": row for row in kept}
        words = [f"{name} {row['mean']:.3g} after epoch {row['epoch']}" for name, row in last.items()]
        caption = (
            f"Seed varied; {seeds_of(cell, finished=True)}. Mean over seeds after each epoch, band from the least to "
            f"the most, on the {images}.{few_arms(_order(cell))}"
        )
        chart = lines(kept, _order(cell), title)
        made.append(Figure(f"curves-{what}", f"Learning curves: {what}", caption, "; ".join(words), chart))
    return made


def cost_figure(cell: Cell) -> list[Figure]:
    """Accuracy against training time, with the Pareto front; nothing where no time was measured."""
    from attnbench.report.charts import front

    found = [cost for cost in costs(cell) if math.isfinite(cost.seconds) and cost.on_front is not None]
    if not found:
        return []
    spans = {arm.name: arm.score for arm in cell.arms}
    rows: list[dict[str, Any]] = []
    for cost in found:
        span, at = spans[cost.arm], cost.accuracy
        ends = {"low": at, "high": at} if math.isnan(span.low) else {"low": span.low, "high": span.high}
        rows.append({"arm": cost.arm, "seconds": cost.seconds, "accuracy": at, **ends, "front": cost.on_front is True})
    words = [f"{cost.arm} {cost.accuracy:.2f} % in {cost.seconds:.0f} s" for cost in found]
    caption = (
        f"{varied(cell)}. Mean test accuracy with its 95 % interval (this test set) against "
        f"the time of a run (geometric mean; {CLOCKS[clock(cell)]}), controls left out. Dotted: the Pareto front: "
        "the arms of which no other is credibly cheaper (95 % interval of the ratio below 1) and credibly at least as "
        f"accurate (95 % interval of the difference not below 0).{few_arms([cost.arm for cost in found])}"
    )
    axis = CLOCKS[clock(cell)].split(",")[0]
    return [
        Figure(
            "time", "Accuracy against time", caption, "; ".join(words), front(rows, [cost.arm for cost in found], axis)
        )
    ]


def _controls(cell: Cell) -> list[Figure]:
    from attnbench.report.charts import intervals

    made: list[Figure] = []
    steps = decomposition(cell)
    for arm in dict.fromkeys(step.arm for step in steps):
        own = [step for step in steps if step.arm == arm and not math.isnan(step.estimate.low)]
        if not own:
            continue
        rows = [{"part": step.part, **_span(step.estimate), "compared": step.what} for step in own]
        words = [
            f"{one.part} ({one.what}) {signed(one.estimate.mean)} {spread(one.estimate, plus=True)}" for one in own
        ]
        caption = (
            f"{varied(cell)}. What the controls say about {arm}: differences of mean test "
            "accuracy in points with 95 % intervals (this test set; Welch's between arms, Student's over trained runs "
            "for other gates), not corrected for their number."
        )
        chart = intervals(rows, "part", [step.part for step in own], "points")
        made.append(Figure(f"controls-{len(made) + 1}", f"Why: {arm}", caption, "; ".join(words), chart))
    return made


def _order(cell: Cell) -> list[str]:
    return [arm.name for arm in cell.arms]


def few_arms(drawn: list[str]) -> str:
    """Which of the arms of a figure have a colour, as the end of a caption; nothing where all have."""
    from attnbench.report.charts import coloured

    told = coloured(drawn)
    return "" if len(told) == len(drawn) else f" Coloured: the first {len(told)} of {len(drawn)} arms."


def above(cell: Cell) -> str:
    """The title of an axis of differences to the baseline."""
    return f"{cell.measure.steps or cell.measure.name} above {cell.plan.baseline}"


def varied(cell: Cell, finished: bool = False) -> str:
    """What differs within a figure, as the beginning of a caption; `finished` as in `seeds_of`."""
    return f"{'Mechanism' if cell.recorded else 'Arm'} and seed varied; {seeds_of(cell, finished)}"


def seeds_of(cell: Cell, finished: bool = False) -> str:
    """`n = 8 to 12 seeds an arm`: of all runs, or of those alone that finished, where their records are shown."""
    sizes = sorted({len(arm.records) if finished else arm.score.n for arm in cell.arms if arm.records or not finished})
    return f"n = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "") + " seeds an arm"


def _span(found: Estimate | Difference) -> dict[str, float]:
    return {"mean": found.mean, "low": found.low, "high": found.high}
