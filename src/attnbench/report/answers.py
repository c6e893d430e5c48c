"""The figures of what networks answered to each test image: calibration, classes, and what is taken for what."""

import math
from collections.abc import Sequence

from attnbench.analysis.cells import Cell
from attnbench.report.evidence import (
    Quality,
    calibration_chance,
    class_differences,
    confusions,
    leader,
    reliability_rows,
)
from attnbench.report.figures import MOST_ROWS, Figure, above, few_arms, seeds_of, varied
from attnbench.report.text import signed

MOST_CLASSES = 12
"""Of more classes the confusions of those are drawn that are confused most."""


def answers(cell: Cell, qualities: Sequence[Quality]) -> list[Figure]:
    """Those that the predictions of a cell give; none where no arm kept any."""
    return [*_calibration(cell, qualities), *_confusions(cell), *_classes(cell, qualities)]


def _calibration(cell: Cell, qualities: Sequence[Quality]) -> list[Figure]:
    from attnbench.report.charts import reliability

    if not qualities:
        return []
    words = [
        f"{each.arm} calibration error {each.estimates['ece'].mean:.2f} points {calibration_chance(each)}"
        for each in qualities
    ]
    caption = (
        f"Mechanism varied, all seeds together; {seeds_of(cell, finished=True)}. Accuracy against mean confidence in "
        "15 bins of equal width on the test images, a point the larger the more of them are in its bin; on the dashed "
        f"line confidence is right, below it too high.{few_arms([each.arm for each in qualities])}"
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
        f"{varied(cell, finished=True)}. Recall of each class less that of {cell.plan.baseline}, in points, "
        f"with Welch's 95 % interval over seeds (this test set), not corrected for the number of classes.{few}"
    )
    words = [f"{row['class']}, {row['arm']} {signed(row['mean'])}" for row in shown]
    title = above(cell)
    chart = intervals(shown, "class", order, title, by="arm")
    return [Figure("classes", "Class by class", caption, "; ".join(words), chart)]


def _confusions(cell: Cell) -> list[Figure]:
    """Of the baseline, and of the mechanism with the largest difference to it."""
    from attnbench.report.charts import confusion

    shown = [arm for arm in (cell.baseline, leader(cell)) if arm is not None]
    made: list[Figure] = []
    for arm, rows, order in confusions(cell, shown, MOST_CLASSES):
        wrong = sorted((row for row in rows if row["wrong"]), key=lambda row: -row["percent"])[:5]
        words = [f"{row['percent']:.1f} % of {row['true']} taken for {row['told']}" for row in wrong]
        few = "" if len(order) < MOST_CLASSES else f" Drawn are the {len(order)} classes that are confused most."
        who = "" if arm is cell.baseline else ", the mechanism with the largest difference"
        caption = (
            f"Seed varied; n = {len(arm.records)} seeds an arm. Of each class the share of its test images that "
            f"{arm.name}{who} takes for each, in percent, mean over seeds (this test set); the darker, the more often "
            f"wrong.{few}"
        )
        title = f"What is taken for what: {arm.name}"
        said = "; ".join(words) or f"{arm.name} confuses nothing: 0 errors"
        made.append(Figure(f"confusions-{len(made) + 1}", title, caption, said, confusion(rows, order)))
    return made
