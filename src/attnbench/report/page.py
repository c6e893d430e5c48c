"""One self-contained HTML page: conclusions on top, then numbers, figures, and what everything was measured on."""

import base64
import contextlib
import datetime
import json
import math
import os
import zlib
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.costs import CLOCKS, clock, costs
from attnbench.analysis.stats import Estimate
from attnbench.console import joined
from attnbench.files import user_cache
from attnbench.report.across import across_figures, sections
from attnbench.report.best import best_sentence
from attnbench.report.evidence import QUALITY, Quality, decomposition
from attnbench.report.examples import examples
from attnbench.report.figures import Figure
from attnbench.report.matrix import headline, rows, spent, timed_by
from attnbench.report.sentences import because, changed, verdict_sentences
from attnbench.report.tables import WHY, caption, margins
from attnbench.report.text import OPEN, columns, entries, interval, signed, spread
from attnbench.spec.run import LATER

HERE = Path(__file__).parent
MOST_RUNS = 2_000
"""Runs of a cell that the page lists at most; all are in the table beside it."""
T = TypeVar("T")
SAME = ("dataset", "attention", "backbone", "seed", "site", "stages", "every", "init")
"""Fields that titles and tables show already."""


def page(
    comparison: Comparison,
    qualities: Sequence[Sequence[Quality]],
    figures: Sequence[Sequence[Figure]],
    made: datetime.date | None = None,
    data_dir: str | Path | None = None,
) -> str:
    """The page as text: self-contained, it makes no network requests.

    Args:
        comparison: arranged.
        qualities, figures: those of each cell.
        made: the day that it says it was made on.
        data_dir: where test images may lie that it shows.
    """
    parts = zip(comparison.cells, qualities, figures, strict=True)
    cells = [
        {**_cell(comparison, cell, own, drawn), "examples": examples(cell, data_dir)} for cell, own, drawn in parts
    ]
    over = across_figures(comparison)
    return rendered(
        "page.html",
        [figure for drawn in (*figures, over) for figure in drawn],
        comparison=comparison,
        headline=headline(comparison),
        made=f"Made on {made:%d %B %Y}; " if made else "",
        spent=spent(comparison),
        clock=timed_by(comparison),
        matrix=rows(comparison),
        sentences=_sentences(comparison),
        caption=caption(comparison),
        changed=changed(comparison),
        heads=_heads(comparison),
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
        specs=packed(json.dumps({figure.name: _spoken(figure) for figure in drawn}, allow_nan=False)) if drawn else "",
        style=(HERE / "page.css").read_text(),
        script=(HERE / "page.js").read_text(),
        vega=_vega() if drawn else "",
    )


def packed(text: str) -> str:
    """Text as base64 of its zlib form, which page.js unpacks: a quarter of its size."""
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def _vega() -> str:
    """What draws the figures in a browser, packed; made once for each version, for that takes as long as a report."""
    import vl_convert

    file = user_cache() / f"vega-{version('vl-convert-python')}.b64"
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8")
    made = packed(vl_convert.javascript_bundle())  # type: ignore[call-arg]
    with contextlib.suppress(OSError):  # it is made again the next time
        file.parent.mkdir(parents=True, exist_ok=True)
        own = file.with_name(f"{file.name}-{os.getpid()}")
        own.write_text(made, encoding="utf-8")
        own.replace(file)
    return made


def _spoken(figure: Figure) -> dict[str, Any]:
    """The chart with its words, which Vega reads out in place of the chart."""
    return {**figure.chart, "description": f"{figure.title}: {figure.words}"}


def _cell(
    comparison: Comparison, cell: Cell, qualities: Sequence[Quality], figures: Sequence[Figure]
) -> dict[str, Any]:
    """What the page shows of a cell, as texts."""
    steps = decomposition(cell)
    return {
        "name": cell.name,
        "about": cell.about,
        "rows": [_row(arm, comparison) for arm in cell.arms],
        "why": because(cell, steps),
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
            for step in steps
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


def _sentences(comparison: Comparison) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """Kind and sentence of each verdict; and the sentences of each answer that claims nothing, where it was given."""
    told = verdict_sentences(comparison)
    others = {word: [words for kind, words in told if kind == word] for word in OPEN}
    return [each for each in told if each[0] not in OPEN], {word: every for word, every in others.items() if every}


def _heads(comparison: Comparison) -> list[str]:
    """The heads of the main table, no two alike."""
    heads = columns(comparison)
    spans = _spans(heads)
    score, apart = heads[2], heads[3 + spans]
    own = [f"{score}, {head}" for head in heads[3 : 3 + spans]]
    gap = [f"{apart}, {head}" for head in heads[4 + spans : 4 + 2 * spans]]
    first, *others = _verdict_first([*heads[:3], *own, apart, *gap, *heads[-3:]], comparison)
    where = ["data set" if comparison.recorded else "cell"] if len(comparison.cells) > 1 else []
    return [first, *where, *others]


def _row(arm: Arm, comparison: Comparison) -> list[tuple[str, object, str]]:
    """Text, what it is sorted by, and the class that colours it, of each column of the main table."""
    verdict, (*first, last) = arm.contrast.verdict if arm.contrast else None, entries(arm)
    if verdict and verdict.kind in ("better", "worse") and verdict.within_margin:
        last = last._replace(text=f"{last.text}, within the margin")
    kind = verdict.kind if verdict else ""
    return _verdict_first([(each.text, each.key, kind if each.coloured else "") for each in (*first, last)], comparison)


def _verdict_first(row: Sequence[T], comparison: Comparison) -> list[T]:
    """The columns of a table of arms as the page has them: the verdict beside its arm, and then what it rests on.

    Intervals for new images are left out where no run kept its predictions.
    """
    spans = _spans(row)
    known = any(arm.new_images for cell in comparison.cells for arm in cell.arms)
    kept = spans if known or spans == 1 else 1
    own, gap = row[3 : 3 + kept], row[4 + spans : 4 + spans + kept]
    return [row[0], row[-1], row[3 + spans], *gap, row[-3], row[-2], row[1], row[2], *own]


def _spans(row: Sequence[object]) -> int:
    """How many intervals stand beside a score, and beside a difference: the columns of `columns` are 7 without them."""
    return (len(row) - 7) // 2


def _runs(arm: Arm) -> list[tuple[object, ...]]:
    """Each run's id, or where it was not trained here nothing; its arm, seed and score."""
    if not arm.recorded:
        return [
            (arm.name, seed, f"{float(f'{value:.6g}')}{' (failed)' * (seed in arm.failed)}")
            for seed, value, _ in arm.runs
        ]
    return [(record.id if record else "failed", arm.name, seed, f"{value:.4f}") for seed, value, record in arm.runs]


_FRONT = {True: "yes", False: "", None: "control"}


def _costs(cell: Cell) -> list[list[str]]:
    return [
        [cost.arm, f"{cost.parameters:,}", f"{cost.parameters_ratio:.3f}", f"{cost.macs:,}", f"{cost.macs_ratio:.3f}",
         "-" if math.isnan(cost.seconds) else f"{cost.seconds:.1f}", _with_interval(cost.seconds_ratio),
         _FRONT[cost.on_front]]
        for cost in costs(cell)
    ]  # fmt: skip


def _quality(quality: Quality) -> list[str]:
    told = {name: _with_interval(quality.estimates[name]) for name in QUALITY}
    return [quality.arm, *(told | {"ece": f"{told['ece']} ({quality.ece_if_calibrated:.3f} by chance)"}).values()]


def _with_interval(found: Estimate) -> str:
    """To three decimals; `-` where nothing is known."""
    return (
        "-"
        if math.isnan(found.mean)
        else f"{found.mean:.3f}" + ("" if math.isnan(found.low) else f" [{found.low:.3f}, {found.high:.3f}]")
    )


def _pairs(arm: Arm) -> list[str]:
    assert arm.contrast is not None
    found, churn = arm.contrast.correlation, arm.contrast.churn
    return [
        f"{arm.name} - {arm.contrast.other}",
        _with_interval(arm.contrast.superiority),
        str(found.n),
        _known(signed(found.r), spread(found, plus=True)),
        _known("-" if math.isnan(found.saved) else f"{found.saved:.2f}", interval(found.saved_low, found.saved_high)),
        _known(f"{churn.mean:.2f}", spread(churn)) if churn else "-",
    ]


def _known(value: str, ends: str) -> str:
    """A value and its interval, as far as they are known."""
    return value if ends == "-" else f"{value} {ends}"


def _recipe(cell: Cell) -> list[tuple[str, str]]:
    """The fields that all runs share, and of those that were tuned what each arm has."""
    specs = {arm.name: arm.records[0].spec for arm in cell.arms if arm.records}
    told = {name: str(value) for name, value in next(iter(specs.values())).items() if name not in SAME}
    told |= {
        name: joined([f"{spec.get(name, LATER.get(name))} ({arm})" for arm, spec in specs.items()])
        for name in cell.plan.tuned
    }
    return [(name.replace("_", " "), words) for name, words in told.items()]


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
