"""Several data sets in words, rows and figures: what is said on the console, the page, in Markdown, LaTeX and CSV."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from attnbench.analysis.across import Across, Overall
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.pooling import FROM_PREDICTION, FROM_RANKS, RandomEffects
from attnbench.analysis.stats import Difference, Estimate
from attnbench.report.figures import ENDLESS, MOST_ROWS, Figure
from attnbench.report.text import p_text, signed, spread

HEADS = [
    "data sets", "ahead", "on these data sets", "p", "for data sets like these", "p", "tau",
    "on a new data set", "P(A > B)",
]  # fmt: skip
CAPTION = (
    "Mean difference to {baseline}{unit} with 95 % intervals. On these data sets: only seeds vary; p is that of "
    "{test} where that is larger. For "
    "data sets like these: the data sets vary too, and k of them are k observations, however many seeds each has "
    "(random-effects mean, Hartung and Knapp's interval and p). tau: standard deviation of true differences between "
    "data sets. On a new data set: prediction interval of its true difference. Ahead: data sets whose mean is "
    "better than {baseline}'s; in brackets those whose own interval is on that side of 0, and on the other. p with "
    "Holm's correction over {family}. P(A > B): probability that a run beats a run of {baseline}, mean over cells."
)
TESTS = {
    "independent": "a stratified permutation test, in which runs are regrouped within their cell, or Welch's",
    "paired": "a sign-flip test of equal seeds as pairs, within their cell, or Student's over pairs",
}
TAU = {"": "mean", "_low": "low", "_high": "high"}


@dataclass(frozen=True)
class Section:
    """What several cells of one measure say together, as texts."""

    title: str
    sentences: list[str]
    """One per mechanism."""
    heads: list[str]
    rows: list[list[str]]
    """One per mechanism."""
    caption: str
    """What the columns are."""
    limits: list[str]
    """What so few data sets cannot say, and what does not count as one."""


def sections(comparison: Comparison) -> list[Section]:
    """A section per measure that several cells have; the title says which, where there are several."""
    return [
        Section(
            title=_title(found, len(comparison.across)),
            sentences=[_sentence(each, found.baseline) for each in found.overalls],
            heads=["attention" if comparison.recorded else "arm", *HEADS],
            rows=[_row(each) for each in found.overalls],
            caption=_caption(found),
            limits=_limits(found),
        )
        for found in comparison.across
        if found.overalls
    ]


def across_figures(comparison: Comparison) -> list[Figure]:
    """The statements, the differences behind them and, from six data sets on, the ranks; measure by measure."""
    return [
        replace(figure, name=f"across-{place}-{figure.name}")
        for place, found in enumerate(comparison.across, start=1)
        for figure in (*_statements(found), *_each(found), *_ranks(found))
    ]


def csv_rows(comparison: Comparison) -> Iterator[dict[str, object]]:
    """Every number of a mechanism over several data sets, one row each."""
    for each in (overall for found in comparison.across for overall in found.overalls):
        like, (ahead, behind) = each.like, each.credibly
        yield {
            "measure": each.measure.name,
            "unit": each.measure.steps,
            "attention" if comparison.recorded else "arm": each.arm,
            "data_sets": len(each.sets),
            "cells": sum(one.cells for one in each.sets),
            "ahead": each.helped,
            "credibly_ahead": ahead,
            "credibly_behind": behind,
            **_csv("these", each.these, each.these_p, each.waiting),
            "these_verdict": each.on_these,
            **_csv("like_these", like, each.like_p, each.waiting),
            "like_these_verdict": each.on_like,
            **{f"tau{end}": getattr(like.tau, name) if like else "" for end, name in TAU.items()},
            "new_low": like.new.low if like else "",
            "new_high": like.new.high if like else "",
            "superiority": each.superiority.mean,
            "family": each.family,
        }


def _title(found: Across, groups: int) -> str:
    what = "Across data sets" if len(found.datasets) > 1 else f"Over the cells of {next(iter(found.datasets))}"
    return f"{what}: {found.measure.axis}" if groups > 1 else what


def _caption(found: Across) -> str:
    family, unit = len(found.overalls), found.measure.steps
    told = f"{family} mechanisms" if family > 1 else "a single mechanism"
    test = TESTS[found.cells[0].plan.pairing]
    return CAPTION.format(baseline=found.baseline, unit=f" in {unit}" if unit else "", family=told, test=test)


def _limits(found: Across) -> list[str]:
    counts = {len(each.sets) for each in found.overalls}
    several = [f"{name} ({len(cells)} cells)" for name, cells in found.datasets.items() if len(cells) > 1]
    one_seed = any(math.isnan(one.error) for each in found.overalls for one in each.sets)
    waiting = any(each.waiting for each in found.overalls)
    looks = any(cell.plan.looks == "any" for cell in found.cells)
    said: dict[str, object] = {
        f"Cells of one data set are averaged; they are not different data sets: {', '.join(several)}": several,
        "Each cell of scores counts as a data set of its own": not any(cell.recorded for cell in found.cells),
        "Cells of a single data set say nothing about data sets like it": 1 in counts,
        "Two data sets say next to nothing about data sets like them: their interval goes 12.7 standard errors to "
        "each side, where many data sets need 2": 2 in counts,
        f"Below {FROM_PREDICTION} data sets there is no prediction for a new one": counts & {1, 2},
        "With three data sets tau is hardly known, so that the prediction for a new one is very wide": 3 in counts,
        "Where an arm has one seed on a data set, the spread between seeds is part of tau": one_seed,
        "There is no p before every cell has its verdict: looking early would spend the error": waiting,
        "The p values over several data sets are of a single look, but these runs were looked at one by one": looks,
        f"Below {FROM_RANKS} data sets mean ranks are not shown: chance orders them": len(found.datasets) < FROM_RANKS,
    }
    return [text for text, true in said.items() if true]


def _csv(name: str, found: Difference | RandomEffects | None, p: float, waiting: bool) -> dict[str, object]:
    """A difference with its interval and both p values, which are not told before every cell has its verdict."""
    values: tuple[float | str, ...] = ("",) * 5
    if found:
        values = found.mean, found.low, found.high, *(("", "") if waiting else (found.p_value, p))
    return dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_p", f"{name}_p_holm"), values, strict=True))


def _row(each: Overall) -> list[str]:
    like, (ahead, behind), places = each.like, each.credibly, each.measure.decimals
    tau = f"{like.tau.mean:.{places}f} {spread(like.tau, decimals=places)}" if like else "-"
    wins = each.superiority
    return [
        each.arm,
        str(len(each.sets)),
        f"{each.helped} ({ahead}, {behind})",
        _with_interval(each.these, places),
        p_text(each.these_p),
        _with_interval(like, places) if like else "-",
        p_text(each.like_p),
        "-" if like and math.isnan(like.tau.mean) else tau,
        spread(like.new, plus=True, decimals=places) if like else "-",
        f"{wins.mean:.3f} [{wins.low:.3f}, {wins.high:.3f}]",
    ]


def _with_interval(found: Difference | RandomEffects, places: int) -> str:
    return f"{signed(found.mean, places)} {_spread(found, places)}".removesuffix(" -")


def _spread(found: Difference | RandomEffects, places: int) -> str:
    return spread(Estimate(found.mean, found.low, found.high, found.n), plus=True, decimals=places)


def _sentence(each: Overall, baseline: str) -> str:
    sets, (ahead, behind), like = len(each.sets), each.credibly, each.like
    cells = sum(one.cells for one in each.sets)
    where = f"{sets} data set{'s' * (sets != 1)}" + (f" ({cells} cells)" if cells != sets else "")
    these = "these data sets" if sets > 1 else "this data set"
    parts = [
        f"on {these}, where only seeds vary, {_answer(each, each.these, each.on_these, baseline)} "
        f"({_found(each.these, each.these_p, each)})"
    ]
    if like:
        parts.append(
            f"for data sets like these, where data sets vary too, "
            f"{_answer(each, like, each.on_like, baseline)} ({_found(like, each.like_p, each)})"
        )
    if like and not math.isnan(like.new.low):
        low, high = (signed(end, each.measure.decimals) for end in (like.new.low, like.new.high))
        parts.append(f"on a new data set like these between {low} and {high} (95 % prediction interval)")
    share = f"Ahead on {each.helped} of {sets}, credibly on {ahead}, credibly behind on {behind}."
    return f"{each.arm} over {where}: {'; '.join(parts)}. {share}"


def _answer(each: Overall, found: Difference | RandomEffects, kind: str, baseline: str) -> str:
    """Better, worse or undecided; and why undecided, where the interval alone would decide."""
    if each.waiting:
        return "no verdict yet"
    if kind != "undecided":
        return f"{kind} than {baseline}"
    if math.isnan(found.low) or found.low <= 0 <= found.high:
        return kind
    return f"undecided: the interval alone excludes 0, the {'corrected ' if each.family > 1 else ''}p does not"


def _found(found: Difference | RandomEffects, p: float, each: Overall) -> str:
    places, family = each.measure.decimals, f" by Holm's method among {each.family}" if each.family > 1 else ""
    size = f"{signed(found.mean, places)} {each.measure.steps}".rstrip()
    told = f"{size}, 95 % interval {_spread(found, places)}"
    return told if each.waiting else f"{told}, p {p_text(p)}{family}"


def _statements(found: Across) -> list[Figure]:
    from attnbench.report.charts import intervals

    drawn: list[dict[str, Any]] = []
    for each in found.overalls:
        like, sets = each.like, len(each.sets)
        spans: list[tuple[str, Any]] = [("these data sets", each.these)]
        spans += [("data sets like these", like)] if like and sets > 2 else []
        spans += [("a new data set", like.new)] if like and sets > 3 else []
        drawn += [
            {"arm": each.arm, "about": about, "mean": span.mean, "low": span.low, "high": span.high}
            for about, span in spans
            if not math.isnan(span.low)
        ]
    if not drawn:
        return []
    words = (
        f"Mechanism, data set and seed varied; {len(found.datasets)} data sets. Mean difference to {found.baseline} "
    )
    words += (
        "with 95 % intervals: on these data sets, for data sets like these, and a prediction for a new one. Intervals "
        "of one degree of freedom are left out."
    )
    order, axis = (
        [each.arm for each in found.overalls],
        f"{found.measure.steps or found.measure.name} above {found.baseline}",
    )
    chart = intervals(drawn, "arm", order, axis, by="about")
    return [
        Figure(
            "statements",
            "Over all data sets",
            words,
            "; ".join(_sentence(each, found.baseline) for each in found.overalls),
            chart,
        )
    ]


def _each(found: Across) -> list[Figure]:
    from attnbench.report.charts import intervals

    spans = [(each.arm, one.dataset, one.difference) for each in found.overalls for one in each.sets]
    spans = [span for span in spans if not math.isnan(span[2].low)]
    drawn: list[dict[str, Any]] = [
        {"data set": dataset, "arm": arm, "mean": gap.mean, "low": gap.low, "high": gap.high}
        for arm, dataset, gap in spans
        if math.isfinite(gap.low) and math.isfinite(gap.high)
    ]
    if not drawn or len(drawn) > MOST_ROWS:
        return []
    places = found.measure.decimals
    words = [f"{row['arm']} on {row['data set']} {signed(row['mean'], places)}" for row in drawn]
    about = (
        f"Mechanism, data set and seed varied. Difference to {found.baseline} on each data set, with its own 95 % "
        "interval (this test set), not corrected for their number; cells of one data set are averaged."
        f"{ENDLESS * (len(drawn) < len(spans))}"
    )
    axis = f"{found.measure.steps or found.measure.name} above {found.baseline}"
    chart = intervals(drawn, "data set", list(found.datasets), axis, by="arm")
    return [Figure("each", "Each data set", about, "; ".join(words), chart)]


def _ranks(found: Across) -> list[Figure]:
    from attnbench.report.charts import critical_difference

    ranks = found.ranks
    if ranks is None:
        return []
    about = (
        f"Mechanism and data set varied; {ranks.n} data sets, {len(ranks.arms)} arms that all of them have. Mean rank "
        f"of the mean over seeds; 1 is the best. A bar joins arms whose mean ranks lie within {ranks.critical:.2f}, "
        "Nemenyi's critical difference at 5 % over all pairs (Demšar 2006): they are not told apart. Friedman's test "
        f"that no arm differs: p {p_text(ranks.p_value)}."
    )
    placed = list(zip(ranks.arms, ranks.means, strict=True))
    words = [*(f"{arm} {mean:.2f}" for arm, mean in placed), *(f"not told apart: {', '.join(g)}" for g in ranks.groups)]
    means = dict(placed)
    bars = [{"low": means[group[0]], "high": means[group[-1]]} for group in ranks.groups]
    points = [{"arm": arm, "rank": mean} for arm, mean in placed]
    chart = critical_difference(points, bars, ranks.critical)
    return [Figure("ranks", "Mean ranks and critical difference", about, "; ".join(words), chart)]
