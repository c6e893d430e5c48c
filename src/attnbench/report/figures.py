"""The figures of a report: which there are, what each shows of a cell, its caption, and the same in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnbench.analysis.cells import Cell
from attnbench.analysis.costs import CLOCKS, clock, costs
from attnbench.analysis.stats import Difference, Estimate
from attnbench.report.evidence import (
    Quality,
    calibration_chance,
    class_differences,
    curves,
    decomposition,
    reliability_rows,
)
from attnbench.report.text import signed, spread

MOST_ROWS = 96
"""Where classes times mechanisms are more, only the classes with the largest differences are drawn."""

MOST_POINTS = 2_000
"""Runs of a cell that are drawn at most."""


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


def figures(cell: Cell, qualities: Sequence[Quality], place: int) -> list[Figure]:
    """The figures of a cell that its records have numbers for.

    Args:
        place: the cell's number in the report, counted from 1, which its figures' names begin with.
    """
    simple: list[Callable[[Cell], list[Figure]]] = [_differences, _seeds, _curves, cost_figure, _controls]
    made = [figure for make in simple for figure in make(cell)]
    made += [*_calibration(cell, qualities), *_classes(cell, qualities)]
    return [replace(figure, name=f"{place:02d}-{figure.name}") for figure in made]


def _differences(cell: Cell) -> list[Figure]:
    from attnbench.report.charts import intervals

    rows: list[dict[str, Any]] = []
    contrasts = sorted((arm.contrast for arm in cell.arms if arm.contrast), key=lambda each: -each.difference.mean)
    for found in contrasts:
        for estimand, gap in (("this test set", found.difference), ("new images", found.new_images)):
            if gap is not None and not math.isnan(gap.low):
                rows.append({"arm": found.arm, "estimand": estimand, **_span(gap), "verdict": found.verdict.kind})
    if not rows:
        return []
    places = cell.measure.decimals
    gaps = [(each.arm, each.difference) for each in contrasts]
    words = [f"{arm} {signed(gap.mean, places)} {spread(gap, plus=True, decimals=places)}" for arm, gap in gaps]
    margin, measure, order = cell.plan.margin, cell.measure, [each.arm for each in contrasts]
    caption = (
        f"{_varied(cell)}. Difference of mean {measure.plural} to {cell.plan.baseline} with 95 % intervals"
        f"{' for both estimands' if cell.recorded else ''}, the largest first. "
        f"Dashed: the margin of {measure.amount(margin)}."
    )
    title = _above(cell)
    chart = intervals(rows, "arm", order, title, (-margin, margin), by="estimand")
    return [Figure("differences", f"Difference to {cell.plan.baseline}", caption, "; ".join(words), chart)]


def _seeds(cell: Cell) -> list[Figure]:
    from attnbench.report.charts import strip

    room = max(1, MOST_POINTS // len(cell.arms))
    few = f" Drawn are the first {room:,} of each arm." if any(arm.score.n > room for arm in cell.arms) else ""
    rows = [{"arm": arm.name, "seed": seed, "value": value} for arm in cell.arms for seed, value, _ in arm.runs[:room]]
    means, form = [{"arm": arm.name, "mean": arm.score.mean} for arm in cell.arms], f".{cell.measure.decimals}f"
    words = [
        f"{arm.name} from {min(arm.values):{form}} to {max(arm.values):{form}}, mean {arm.score.mean:{form}}"
        for arm in cell.arms
    ]
    caption = (
        f"Seed varied within a row; {_runs(cell)}. A point is the {cell.measure.name} of one run, the line its row's "
        f"mean.{' Estimand: this test set.' if cell.recorded else ''}{few}"
    )
    chart = strip(rows, means, _order(cell), cell.measure.axis)
    return [Figure("seeds", "Every run", caption, "; ".join(words), chart)]


def _curves(cell: Cell) -> list[Figure]:
    from attnbench.report.charts import lines

    made, rows = [], curves(cell)
    for what, title in (("loss", "loss"), ("accuracy", "accuracy (%)")):
        kept = [row for row in rows if row["curve"] == what]
        if not kept:
            continue
        last = {f"{row['arm']} {row['split']}": row for row in kept}
        words = [f"{name} {row['mean']:.3g} after epoch {row['epoch']}" for name, row in last.items()]
        caption = (
            f"Seed varied; {_runs(cell)}. Mean over seeds after each epoch, band from the least to the most, on the "
            "training images as the recipe augments them (and on validation images, where there are any)."
        )
        name = f"curves-{what}"
        made.append(
            Figure(name, f"Learning curves: {what}", caption, "; ".join(words), lines(kept, _order(cell), title))
        )
    return made


def cost_figure(cell: Cell) -> list[Figure]:
    """Accuracy against training time, with the Pareto front; nothing where no time was measured."""
    from attnbench.report.charts import front

    found = [cost for cost in costs(cell) if not math.isnan(cost.seconds)]
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
        f"{_varied(cell)}. Mean test accuracy with its 95 % interval (this test set) against "
        f"the time of a run (geometric mean; {CLOCKS[clock(cell)]}). Dotted: the Pareto front, without controls: "
        "the arms of which no other is credibly cheaper (95 % interval of the ratio below 1) and credibly at least as "
        "accurate (95 % interval of the difference not below 0)."
    )
    axis = CLOCKS[clock(cell)].split(",")[0]
    return [Figure("time", "Accuracy against time", caption, "; ".join(words), front(rows, _order(cell), axis))]


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
            f"{_varied(cell)}. What the controls say about {arm}: differences of mean test "
            "accuracy in points with 95 % intervals (this test set; Welch's between arms, Student's over trained runs "
            "for other gates), not corrected for their number."
        )
        chart = intervals(rows, "part", [step.part for step in own], "points")
        made.append(Figure(f"controls-{len(made) + 1}", f"Why: {arm}", caption, "; ".join(words), chart))
    return made


def _calibration(cell: Cell, qualities: Sequence[Quality]) -> list[Figure]:
    from attnbench.report.charts import reliability

    if not qualities:
        return []
    words = [
        f"{each.arm} calibration error {each.estimates['ece'].mean:.2f} points {calibration_chance(each)}"
        for each in qualities
    ]
    caption = (
        f"Mechanism varied, all seeds together; {_runs(cell)}. Accuracy against mean confidence in 15 bins of equal "
        "width on the test images; on the dashed line confidence is right, below it too high."
    )
    chart = reliability(reliability_rows(qualities), [each.arm for each in qualities])
    return [Figure("calibration", "Calibration", caption, "; ".join(words), chart)]


def _classes(cell: Cell, qualities: Sequence[Quality]) -> list[Figure]:
    from attnbench.report.charts import intervals

    rows = [row for row in class_differences(cell, qualities) if not math.isnan(row["low"])]
    if not rows:
        return []
    extent: dict[str, float] = {}
    for row in rows:
        extent[row["class"]] = max(extent.get(row["class"], 0.0), abs(row["mean"]))
    room = max(4, MOST_ROWS // len({row["arm"] for row in rows}))
    furthest = sorted(extent, key=lambda name: -extent[name])[:room]
    order, few = [name for name in extent if name in furthest], ""
    if len(order) < len(extent):
        few = f" Of {len(extent)} classes the {len(order)} furthest out: among so many some are far out by chance."
    shown = [row for row in rows if row["class"] in furthest]
    caption = (
        f"{_varied(cell)}. Recall of each class less that of {cell.plan.baseline}, in points, "
        f"with Welch's 95 % interval over seeds (this test set), not corrected for the number of classes.{few}"
    )
    words = [f"{row['class']}, {row['arm']} {signed(row['mean'])}" for row in shown]
    title = _above(cell)
    chart = intervals(shown, "class", order, title, by="arm")
    return [Figure("classes", "Class by class", caption, "; ".join(words), chart)]


def _order(cell: Cell) -> list[str]:
    return [arm.name for arm in cell.arms]


def _above(cell: Cell) -> str:
    """The title of an axis of differences to the baseline."""
    return f"{cell.measure.steps or cell.measure.name} above {cell.plan.baseline}"


def _varied(cell: Cell) -> str:
    return f"{'Mechanism' if cell.recorded else 'Arm'} and seed varied; {_runs(cell)}"


def _runs(cell: Cell) -> str:
    sizes = sorted({arm.score.n for arm in cell.arms})
    return f"n = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "") + " seeds an arm"


def _span(found: Estimate | Difference) -> dict[str, float]:
    return {"mean": found.mean, "low": found.low, "high": found.high}
