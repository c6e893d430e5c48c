"""What a search for recipes found, as a sheet and as the file of a study: `attnbench tune`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from attnbench.analysis.tuning import Tuned, best_so_far, expected_best
from attnbench.errors import writing
from attnbench.files import replacing
from attnbench.report.sheet import Sheet
from attnbench.spec.search import FIRST, Search

EDGE = 0.05
"""A value in this share of a range's ends may want a wider range."""


def sheet(search: Search, found: Sequence[Tuned]) -> Sheet:
    """A row for each arm, and how its best score grows with the number of trials."""
    places = sorted({1, max(1, search.trials // 4), max(1, search.trials // 2), search.trials})
    adaptive = search.sampler == "tpe"
    grown = [best_so_far(each.scores) if adaptive else expected_best(each.scores) for each in found]
    what = "best so far" if adaptive else "expected best"
    several = len({each.cell for each in found}) > 1
    names = [f"{each.cell}: {each.arm}" if several else each.arm for each in found]
    return Sheet(
        title=f"{search.name}: tuned on validation images",
        sentences=_sentences(search, found, names),
        heads=["arm", "best", *(f"{what} of {n}" for n in places), *search.space, "failed"],
        rows=[_row(name, each, curve, places) for name, each, curve in zip(names, found, grown, strict=True)],
        caption=(
            "Accuracy in percent on validation images; the test images were not opened. "
            + (
                "Best so far: of the first n trials, whose points follow from the scores before them."
                if adaptive
                else "Expected best: of n trials drawn from these (Dodge et al. 2019)."
            )
            + " A failed trial scores chance level. Arms that are compared need scores on test images under fresh "
            "seeds: the best of many is too high an estimate of itself."
        ),
        data=[{"cell": each.cell, "arm": each.arm, **_plain(trial)} for each in found for trial in each.trials],
        chart=_chart(names, grown, f"{what} on validation (%)"),
    )


def write_study(search: Search, found: Sequence[Tuned], file: Path) -> None:
    """Write the file of the study in which every arm has its tuned values.

    Raises:
        StoreProblem: the file cannot be written.
    """
    values = search.tuned_study([(each.picked, each.best.point) for each in found])
    head = (
        f"# Written by attnbench tune: each arm with the best of {search.trials} trials in the same space, scored on\n"
        f"# validation images. Its seeds have not been searched with (those are {FIRST:,} and above).\n"
    )
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as out:
            out.write(head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120))


def _row(name: str, each: Tuned, curve: np.ndarray, places: Sequence[int]) -> list[str]:
    values = [_shown(value) for value in each.best.point.values()]
    failed = sum(trial.failed for trial in each.trials)
    return [name, f"{each.best.score:.2f}", *(f"{curve[n - 1]:.2f}" for n in places), *values, str(failed)]


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(trial: Any) -> dict[str, Any]:
    own = {name: value for name, value in vars(trial).items() if name != "point"}
    return {**own, **trial.point}


def _sentences(search: Search, found: Sequence[Tuned], names: Sequence[str]) -> list[str]:
    same = "each by its own earlier scores" if search.sampler == "tpe" else "at the same points for every arm"
    said = [
        f"{search.trials} trials for each of {len(found)} arms in the same space, {same}; one run each, seeds from "
        f"{FIRST:,} on"
    ]
    for name, each in zip(names, found, strict=True):
        edges = [field for field, span in search.space.items() if _at_edge(span, each.best.point[field])]
        if edges:
            said.append(f"{name}: {' and '.join(edges)} lies at the edge of its range, and may want a wider one")
    return said


def _at_edge(span: dict[Any, Any], value: Any) -> bool:
    """Whether a value lies near an end of its range, on the scale on which it was drawn."""
    if "choices" in span:
        return False
    scale = math.log if span.get("log") else float
    low, high, at = scale(span["low"]), scale(span["high"]), scale(value)
    return not low + EDGE * (high - low) <= at <= high - EDGE * (high - low)


def _chart(names: Sequence[str], grown: Sequence[np.ndarray], up: str) -> dict[str, Any]:
    from attnbench.report.charts import curves

    rows = [
        {"curve": name, "x": n, "y": float(value)}
        for name, curve in zip(names, grown, strict=True)
        for n, value in enumerate(curve, 1)
    ]
    return curves(rows, list(names), "trials", up)
