"""The answer of `attnbench choose` as a page and as Markdown, with its figures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnbench.analysis.choosing import Round
from attnbench.analysis.costs import Cost, costs
from attnbench.analysis.stats import gap
from attnbench.errors import StoreProblem
from attnbench.report.advice import Choice, advice, alike, plan_lines, rung_words
from attnbench.report.figures import Figure, cost_figure
from attnbench.report.markup import markdown_table
from attnbench.report.page import rendered
from attnbench.report.pictures import pictures
from attnbench.report.tables import plain
from attnbench.report.text import p_text, signed, spread

CONFIRMED = (
    "Promised: gain over {baseline} on validation images in the last rung of screening ({promise}); these mechanisms "
    "were chosen by it, so luck is in it. Confirmed: gain on the test images over fresh seeds, by which no mechanism "
    "was chosen, with a 95 % interval of this comparison alone; p is corrected over the confirmed mechanisms. Best: "
    "cannot be told from the best of these arms, which is among them with 95 % confidence. Costs are ratios to "
    "{baseline}."
)
SCREENED = (
    "Accuracy on validation images in percent, mean over seeds, and gain over {baseline} in points, the highest first, "
    "and last those of which a run failed. No test image was looked at."
)
Table = tuple[str, list[str], list[list[str]]]
"""Caption, heads, rows."""


def markdown(choice: Choice) -> str:
    """The whole answer in one file."""
    parts = [f"## {heading}\n\n{as_text(table)}" for heading, table in _tables(choice)]
    return "\n".join(
        [
            f"# {plain(choice.contest.name)}\n",
            said(choice),
            *parts,
            "## Plan\n",
            *(f"* {plain(line.strip())}" for line in plan_lines(choice)),
            "",
        ]
    )


def said(choice: Choice) -> str:
    """What to take, and the arms that cannot be told from it, as Markdown."""
    return f"**{plain(advice(choice))}**\n\n{plain(alike(choice))}\n"


def write(choice: Choice, folder: Path) -> list[Path]:
    """Write `index.html`, `choice.md` and `figures/`; returns their paths.

    Raises:
        StoreProblem: the folder cannot be written.
    """
    drawn = figures(choice)
    texts = {"index.html": page(choice, drawn), "choice.md": markdown(choice)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        return [*(folder / name for name in texts), *pictures(drawn, folder / "figures")]
    except OSError as problem:
        raise StoreProblem(f"the answer cannot be written to {folder}/: {problem.strerror or problem}") from None


def figures(choice: Choice) -> list[Figure]:
    """What was promised beside what came of it, and accuracy against cost."""
    return [*_promises(choice), *cost_figure(choice.cell)]


def page(choice: Choice, drawn: Sequence[Figure]) -> str:
    """The page as text: self-contained, it makes no network requests."""
    winner = choice.answer.winner
    return rendered(
        "choice.html",
        drawn,
        name=choice.contest.name,
        advice=advice(choice),
        verdict="better" if winner else "none better",
        alike=alike(choice),
        figures=drawn,
        tables=_tables(choice),
        plan=[line.strip() for line in plan_lines(choice)],
        warnings=choice.comparison.warnings,
    )


def _tables(choice: Choice) -> list[tuple[str, Table]]:
    """Every table with its heading."""
    found = [("Confirmed", confirmed(choice))]
    for number, each in reversed(list(enumerate(choice.rounds, start=1))):
        found.append((f"Screening, rung {number}: {rung_words(each.rung)}", _screened(choice, each)))
    return [*found, *([("Limits", _limits(choice))] if choice.contest.limits else [])]


def confirmed(choice: Choice) -> Table:
    """Every confirmed arm: what was promised, what came of it, and what it costs."""
    baseline, measured = (
        choice.contest.baseline,
        [name for name in ("latency", "memory") if choice.contest.limits.get(name)],
    )
    heads = ["attention", "promised", "confirmed", "95 % interval", "p", "verdict", "best", "parameters", "MACs",
             "training time", *measured, "on the front"]  # fmt: skip
    best, rows = {arm.name for arm in choice.answer.best}, []
    ratios = {choice.cell.arm(arm).name: choice.ratios.get(arm, {}) for arm in choice.confirmed}
    known = {cost.arm: cost for cost in costs(choice.cell)}
    for arm in choice.cell.arms:
        gained, found, cost = choice.promised.get(arm.name), arm.contrast, known.get(arm.name)
        row = [arm.name, "" if gained is None else signed(gained)]
        row += [signed(found.difference.mean), spread(found.difference, plus=True)] if found else ["", ""]
        row += [p_text(found.verdict.p_value), found.verdict.kind] if found else ["", "baseline"]
        row += ["yes" if arm.name in best else "", *_costs(cost)]
        row += [_ratio(ratios.get(arm.name, {}).get(name)) for name in measured]
        rows.append([*row, "yes" if cost and cost.on_front else ""])
    promise = rung_words(choice.rounds[-1].rung) if choice.rounds else "nothing was screened"
    return CONFIRMED.format(baseline=baseline, promise=promise), heads, rows


def _costs(cost: Cost | None) -> list[str]:
    """Ratios to the baseline; of an arm all of whose runs failed nothing is known."""
    if cost is None:
        return ["-"] * 3
    return [f"x{cost.parameters_ratio:.3f}", f"x{cost.macs_ratio:.3f}", f"x{cost.seconds_ratio.mean:.2f}"]


def _screened(choice: Choice, each: Round) -> Table:
    """Every arm of a rung."""
    baseline = choice.contest.baseline_text
    order = each.order(each.scores)
    rows = [
        [arm, _accuracy(each, arm), "" if arm == baseline else signed(each.mean(arm) - each.mean(baseline)),
         "yes" if arm in each.kept else "baseline" if arm == baseline else ""]
        for arm in order
    ]  # fmt: skip
    return SCREENED.format(baseline=baseline), ["attention", "accuracy (%)", f"to {baseline}", "goes on"], rows


def _limits(choice: Choice) -> Table:
    """What every mechanism costs, and which were left out for it."""
    names = list(choice.contest.limits)
    rows = [
        [arm, *(_ratio(choice.ratios.get(arm, {}).get(name)) for name in names), choice.out.get(arm, "")]
        for arm in choice.contest.arms
    ]
    caption = (
        f"Ratios to {choice.contest.baseline}, measured before anything was trained. latency: a forward pass; "
        "training: a step; memory: bytes that a step of training allocates beyond weights and gradients."
    )
    return caption, ["attention", *names, "left out"], rows


def _promises(choice: Choice) -> list[Figure]:
    """What selection makes of a number."""
    from attnbench.report.charts import intervals

    if not choice.promised:
        return []
    baseline, baseline_text, last = choice.contest.baseline, choice.contest.baseline_text, choice.rounds[-1]
    rows: list[dict[str, Any]] = []
    words = []
    for text in choice.confirmed:
        arm = choice.cell.arm(text)
        assert arm.contrast is not None
        said, came = gap(last.finished(text), last.finished(baseline_text)), arm.contrast.difference
        for what, found in (("promised by screening", said), ("confirmed", came)):
            if math.isnan(found.mean):  # no run of the last rung came to its end
                continue
            ends = (found.mean, found.mean) if math.isnan(found.low) else (found.low, found.high)
            rows.append({"arm": arm.name, "by": what, "mean": found.mean, "low": ends[0], "high": ends[1]})
        words.append(f"{arm.name} {signed(said.mean)} promised, {signed(came.mean)} confirmed")
    caption = (
        f"Gain over {baseline} in points, by screening (validation images) and by confirmation (test images, fresh "
        "seeds), with Welch's 95 % intervals where there are two seeds. Mechanisms were selected by the first, so that "
        "it is too high on average; the second is free of that."
    )
    chart = intervals(rows, "arm", [choice.cell.arm(text).name for text in choice.confirmed], "points", by="by")
    return [Figure("promises", "What was promised, and what came of it", caption, "; ".join(words), chart)]


def _accuracy(each: Round, arm: str) -> str:
    """An arm's mean, and how many of its runs failed."""
    failed = len(each.scores[arm]) - len(each.finished(arm))
    mean = "-" if failed == len(each.scores[arm]) else f"{each.mean(arm):.2f}"
    return mean + (f" ({failed} failed)" if failed else "")


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"x{value:.2f}"


def as_text(table: Table) -> str:
    """A table in Markdown."""
    caption, heads, rows = table
    return "\n".join([*markdown_table(heads, (map(plain, row) for row in rows)), "", plain(caption), ""])
