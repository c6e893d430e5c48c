"""Several data sets in words, rows and figures: what is said on the console, the page, in Markdown, LaTeX and CSV."""

import math
from collections.abc import Iterator
from typing import Any

from attnbench.analysis.across import Across, Overall
from attnbench.analysis.pooling import FROM_PREDICTION, FROM_RANKS, RandomEffects
from attnbench.analysis.stats import Difference, Estimate
from attnbench.report.figures import MOST_ROWS, Figure
from attnbench.report.text import p_text, signed, spread

HEADS = [
    "attention", "data sets", "ahead", "on these data sets", "p", "for data sets like these", "p", "tau",
    "on a new data set", "P(A > B)",
]  # fmt: skip
CAPTION = (
    "Mean difference to {baseline}{unit} with 95 % intervals. On these data sets: only seeds vary; p is that of a "
    "stratified permutation test, in which runs are regrouped within their cell, or Welch's where that is larger. For "
    "data sets like these: the data sets vary too, and k of them are k observations, however many seeds each has "
    "(random-effects mean, Hartung and Knapp's interval and p). tau: standard deviation of true differences between "
    "data sets. On a new data set: prediction interval of its true difference. Ahead: data sets whose mean is "
    "better than {baseline}'s; in brackets those whose own interval is on that side of 0, and on the other. Both p with "
    "Holm's correction over {family}. P(A > B): probability that a run beats a run of {baseline}, mean over cells."
)
TWO_ESTIMANDS = (
    "The first is about these data sets and says nothing about others; the second is about others, and needs many."
)


def title(found: Across, groups: int) -> str:
    """The heading; with what is measured where several measures are told apart."""
    return "Across data sets" + (f": {found.measure.axis}" if groups > 1 else "")


def caption(found: Across) -> str:
    """What the columns are."""
    family, unit = len(found.overalls), found.measure.steps
    told = f"{family} mechanisms" if family > 1 else "one mechanism, so none"
    return CAPTION.format(baseline=found.baseline, unit=f" in {unit}" if unit else "", family=told)


def rows(found: Across) -> list[list[str]]:
    """A row per mechanism, in the columns of `HEADS`."""
    return [_row(each) for each in found.overalls]


def sentences(found: Across) -> list[str]:
    """One sentence per mechanism."""
    return [_sentence(each, found.baseline) for each in found.overalls]


def limits(found: Across) -> list[str]:
    """What so few data sets cannot say, and what does not count as one."""
    counts = {len(each.sets) for each in found.overalls}
    several = [f"{name} ({len(cells)} cells)" for name, cells in found.datasets.items() if len(cells) > 1]
    made = []
    if several:
        made.append(f"Cells of one data set are averaged, they are no different data sets: {', '.join(several)}")
    if 1 in counts:
        made.append("Cells of a single data set say nothing about data sets like it")
    if 2 in counts:
        made.append(
            "Two data sets say next to nothing about data sets like them: their interval goes 12.7 standard errors to "
            "each side, where many data sets need 2"
        )
    if counts & {1, 2}:
        made.append(f"Below {FROM_PREDICTION} data sets there is no prediction for a new one")
    if 3 in counts:
        made.append("With three data sets a prediction goes 12.7 standard deviations to each side")
    if any(math.isnan(one.error) for each in found.overalls for one in each.sets):
        made.append("Where an arm has one seed on a data set, the spread between seeds is part of tau")
    if len(found.datasets) < FROM_RANKS:
        made.append(f"Below {FROM_RANKS} data sets mean ranks are not shown: chance orders them")
    return made


def figures(found: Across, place: int) -> list[Figure]:
    """The statements, the differences behind them, and from six data sets on the ranks.

    Args:
        place: the number of this measure among those of the report, counted from 1.
    """
    made = [*_statements(found), *_each(found), *_ranks(found)]
    return [Figure(f"across-{place}-{one.name}", one.title, one.caption, one.words, one.chart) for one in made]


def csv_rows(found: Across) -> Iterator[dict[str, object]]:
    """Every number of a mechanism over several data sets, one row each."""
    for each in found.overalls:
        like, (ahead, behind) = each.like, each.credibly
        yield {
            "measure": each.measure.name,
            "unit": each.measure.steps,
            "attention": each.arm,
            "data_sets": len(each.sets),
            "cells": sum(one.cells for one in each.sets),
            "ahead": each.helped,
            "credibly_ahead": ahead,
            "credibly_behind": behind,
            **_csv("these", each.these, each.these_p),
            "these_verdict": each.on_these,
            **_csv("like_these", like, each.like_p),
            "like_these_verdict": each.on_like,
            **{name: getattr(like, name) if like else "" for name in ("tau", "tau_low", "tau_high")},
            "new_low": like.new.low if like else "",
            "new_high": like.new.high if like else "",
            "superiority": each.superiority.mean,
            "family": each.family,
        }


def _csv(name: str, found: Difference | RandomEffects | None, p: float) -> dict[str, object]:
    values = (found.mean, found.low, found.high, found.p_value, p) if found else ("",) * 5
    return dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_p", f"{name}_p_holm"), values, strict=True))


def _row(each: Overall) -> list[str]:
    like, (ahead, behind), places = each.like, each.credibly, each.measure.decimals
    tau = f"{like.tau:.{places}f} [{like.tau_low:.{places}f}, {like.tau_high:.{places}f}]" if like else "-"
    wins = each.superiority
    return [
        each.arm,
        str(len(each.sets)),
        f"{each.helped} ({ahead}, {behind})",
        _with_interval(each.these, places),
        p_text(each.these_p),
        _with_interval(like, places) if like else "-",
        p_text(each.like_p),
        "-" if like and math.isnan(like.tau) else tau,
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
    parts = [
        f"on {'these data sets' if sets > 1 else 'this data set'} {_kind(each.on_these, baseline)} "
        f"({_found(each.these, each)}; stratified permutation test: p {p_text(each.these_p)})"
    ]
    if like:
        parts.append(
            f"for data sets like these {_kind(each.on_like, baseline)} "
            f"({_found(like, each)}; random-effects mean: p {p_text(each.like_p)})"
        )
    if like and not math.isnan(like.new.low):
        low, high = (signed(end, each.measure.decimals) for end in (like.new.low, like.new.high))
        parts.append(f"a new data set like these would show between {low} and {high} (95 % prediction interval)")
    share = f"Ahead on {each.helped} of {sets}, credibly on {ahead}, credibly behind on {behind}."
    return f"{each.arm} over {where}: {'; '.join(parts)}. {share}"


def _kind(kind: str, baseline: str) -> str:
    return "undecided" if kind == "undecided" else f"{kind} than {baseline}"


def _found(found: Difference | RandomEffects, each: Overall) -> str:
    places = each.measure.decimals
    size = f"{signed(found.mean, places)} {each.measure.steps}".rstrip()
    return f"{size}, 95 % interval {_spread(found, places)}"


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
    return [Figure("statements", "Over all data sets", words, "; ".join(sentences(found)), chart)]


def _each(found: Across) -> list[Figure]:
    from attnbench.report.charts import intervals

    drawn = [
        {"data set": one.dataset, "arm": each.arm, "mean": gap.mean, "low": gap.low, "high": gap.high}
        for each in found.overalls
        for one in each.sets
        if not math.isnan((gap := one.difference).low)
    ]
    if not drawn or len(drawn) > MOST_ROWS:
        return []
    places = found.measure.decimals
    words = [f"{row['arm']} on {row['data set']} {signed(row['mean'], places)}" for row in drawn]
    about = (
        f"Mechanism, data set and seed varied. Difference to {found.baseline} on each data set, with its own 95 % "
        "interval (this test set), not corrected for their number; cells of one data set are averaged."
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
    bars = [{"low": means[group[0]], "high": means[group[-1]], "arms": ", ".join(group)} for group in ranks.groups]
    points = [{"arm": arm, "rank": mean} for arm, mean in placed]
    chart = critical_difference(points, bars, ranks.critical)
    return [Figure("ranks", "Mean ranks and critical difference", about, "; ".join(words), chart)]
