"""One self-contained HTML page: verdicts on top, the table, the figures, and what everything was measured on."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.costs import CLOCKS, clock, costs
from attnbench.analysis.stats import Estimate
from attnbench.files import user_cache
from attnbench.report.across import across_figures, sections
from attnbench.report.best import best_sentence
from attnbench.report.evidence import QUALITY, Quality, calibration_chance, decomposition
from attnbench.report.figures import Figure
from attnbench.report.sentences import changed, sentence
from attnbench.report.tables import WHY, caption, margins
from attnbench.report.text import columns, entries, interval, signed, spread

HERE = Path(__file__).parent
MOST_RUNS = 2_000
"""Runs of a cell that the page lists at most; all are in the table beside it."""
SAME = ("dataset", "attention", "backbone", "seed", "site", "stages", "every", "init")
"""Fields that titles and tables show already."""


def page(comparison: Comparison, qualities: Sequence[Sequence[Quality]], figures: Sequence[Sequence[Figure]]) -> str:
    """The page as text: self-contained, it makes no network requests.

    Args:
        qualities, figures: those of each cell.
    """
    cells = [_cell(cell, own, drawn) for cell, own, drawn in zip(comparison.cells, qualities, figures, strict=True)]
    over = across_figures(comparison)
    return rendered(
        "page.html",
        [figure for drawn in (*figures, over) for figure in drawn],
        comparison=comparison,
        caption=caption(comparison),
        changed=changed(comparison),
        heads=["data set" if comparison.recorded else "cell", *columns(comparison)],
        margin=margins(comparison),
        why=WHY,
        quality_heads=["attention", *QUALITY.values()],
        cells=cells,
        across=sections(comparison),
        across_figures=over,
    )


def rendered(template: str, drawn: Sequence[Figure], /, **shown: object) -> str:
    """A page of ours from its template, with all that its figures, its style and its script need inside."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return templates.get_template(template).render(
        **shown,
        specs={figure.name: _spoken(figure) for figure in drawn},
        style=(HERE / "page.css").read_text(),
        script=(HERE / "page.js").read_text(),
        vega=_vega() if drawn else "",
    )


def _vega() -> str:
    """What draws the figures in a browser; made once for each version, for that takes as long as a small report."""
    import vl_convert

    file = user_cache() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8")
    made: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    with contextlib.suppress(OSError):  # it is made again the next time
        file.parent.mkdir(parents=True, exist_ok=True)
        own = file.with_name(f"{file.name}-{os.getpid()}")
        own.write_text(made, encoding="utf-8")
        own.replace(file)
    return made


def _spoken(figure: Figure) -> dict[str, Any]:
    """The chart with its words, which Vega reads out in place of the chart."""
    return {**figure.chart, "description": f"{figure.title}: {figure.words}"}


def _cell(cell: Cell, qualities: Sequence[Quality], figures: Sequence[Figure]) -> dict[str, Any]:
    """What the page shows of a cell, as texts."""
    return {
        "name": cell.name,
        "about": cell.about,
        "rows": [_row(arm) for arm in cell.arms],
        "verdicts": [
            (arm.contrast.verdict.kind, sentence(arm.contrast, cell)) for arm in cell.arms if arm.contrast is not None
        ],
        "best": best_sentence(cell),
        "clock": CLOCKS[clock(cell)] if cell.recorded else "",
        "costs": _costs(cell),
        "quality": [_quality(each) for each in qualities],
        "steps": [
            (
                step.arm,
                step.part,
                step.what,
                signed(step.estimate.mean),
                spread(step.estimate, plus=True),
                step.estimate.n,
            )
            for step in decomposition(cell)
        ],
        "pairs": [_pairs(arm) for arm in cell.arms if arm.contrast is not None],
        "figures": figures,
        "recipe": _recipe(cell) if cell.recorded else [],
        "measured": _measured(cell) if cell.recorded else [],
        "run_heads": [
            *["run"] * cell.recorded,
            "attention" if cell.recorded else "arm",
            "seed",
            f"{cell.measure.head} ({cell.measure.unit})",
        ],
        "runs": [run for arm in cell.arms for run in _runs(arm)][:MOST_RUNS],
        "more_runs": max(0, sum(arm.score.n for arm in cell.arms) - MOST_RUNS),
    }


def _row(arm: Arm) -> list[tuple[str, object, str]]:
    """Text, what it is sorted by, and the class that colours it, of each column of the main table."""
    verdict, (*first, last) = arm.contrast.verdict if arm.contrast else None, entries(arm)
    if verdict and verdict.kind in ("better", "worse") and verdict.within_margin:
        last = last._replace(text=f"{last.text}, within the margin")
    kind = verdict.kind if verdict else ""
    return [(entry.text, entry.key, kind if entry.coloured else "") for entry in (*first, last)]


def _runs(arm: Arm) -> list[tuple[object, ...]]:
    """Each run's id, or where it was not trained here nothing; its arm, seed and score."""
    if not arm.recorded:
        return [(arm.name, seed, f"{value}{' (failed)' * (seed in arm.failed)}") for seed, value, _ in arm.runs]
    return [(record.id if record else "failed", arm.name, seed, value) for seed, value, record in arm.runs]


_FRONT = {True: "yes", False: "", None: "control"}


def _costs(cell: Cell) -> list[list[str]]:
    return [
        [cost.arm, f"{cost.parameters:,}", f"{cost.parameters_ratio:.3f}", f"{cost.macs:,}", f"{cost.macs_ratio:.3f}",
         f"{cost.seconds:.1f}", _with_interval(cost.seconds_ratio), _FRONT[cost.on_front]]
        for cost in costs(cell)
    ]  # fmt: skip


def _quality(quality: Quality) -> list[str]:
    told = {name: _with_interval(quality.estimates[name]) for name in QUALITY}
    return [quality.arm, *(told | {"ece": f"{told['ece']} {calibration_chance(quality, 3)}"}).values()]


def _with_interval(found: Estimate) -> str:
    """To three decimals."""
    return f"{found.mean:.3f}" + ("" if math.isnan(found.low) else f" [{found.low:.3f}, {found.high:.3f}]")


def _pairs(arm: Arm) -> list[str]:
    assert arm.contrast is not None
    found, churn = arm.contrast.correlation, arm.contrast.churn
    return [
        f"{arm.name} - {arm.contrast.other}",
        _with_interval(arm.contrast.superiority),
        str(found.n),
        f"{signed(found.r)} {spread(found, plus=True)}",
        f"{found.saved:.2f} {interval(found.saved_low, found.saved_high)}",
        f"{churn.mean:.2f} {spread(churn)}" if churn else "-",
    ]


def _recipe(cell: Cell) -> list[tuple[str, str]]:
    spec = cell.arms[0].records[0].spec
    return [(name.replace("_", " "), str(value)) for name, value in spec.items() if name not in SAME]


def _measured(cell: Cell) -> list[tuple[str, str]]:
    """What the runs of a cell were made on; several values where they differ."""
    records = [record for arm in cell.arms for record in arm.records]
    numerics, environment = records[0].numerics, records[0].environment
    return [
        ("data", _distinct(record.data_fingerprint for record in records)),
        ("split", _distinct(record.split_fingerprint for record in records)),
        ("selection", _distinct(record.selected.get("rule", "") for record in records)),
        *((name, _distinct(r.numerics.get(name) for r in records)) for name in numerics),
        *((name, _distinct(r.environment.get(name) for r in records)) for name in environment if name != "packages"),
        ("packages", _distinct(_packages(record.environment) for record in records)),
        ("resumed runs", str(sum(record.resumed > 0 for record in records))),
    ]


def _packages(environment: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())


def _distinct(values: Iterable[object]) -> str:
    return " | ".join(dict.fromkeys(value if isinstance(value, str) else json.dumps(value) for value in values))
