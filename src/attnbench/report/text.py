"""Numbers, verdicts and designs as words: the same on the console, the page, in Markdown and in LaTeX."""

import math
from typing import NamedTuple

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.measure import ACCURACY, Measure
from attnbench.analysis.power import MOST_SEEDS, can_decide, detectable, equivalence_spread, seeds_to_decide, smallest_p
from attnbench.analysis.stats import ALPHA, Correlation, Difference, Estimate
from attnbench.analysis.verdicts import Contrast, Design, Failures, Verdict, Waiting

TEST = {
    "independent": "Welch's interval, exact permutation test",
    "paired": "paired t interval, exact sign-flip test",
}

PAIRS = {
    "independent": "Games and Howell's interval and test, permutation test of the two",
    "paired": "paired t interval, exact sign-flip test, Bonferroni's correction",
}
"""The same for two arms that may have been picked from all pairs."""


def signed(value: float, decimals: int = 2) -> str:
    """A number with its sign; `-` where there is none."""
    return "-" if math.isnan(value) else f"{value:+.{decimals}f}"


def p_text(value: float) -> str:
    """A p value to three decimals; `-` where there is none."""
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float, high: float, plus: bool = False, decimals: int = 2) -> str:
    """`[low, high]`; `-` where one seed cannot tell."""
    if math.isnan(low):
        return "-"
    form = f"{'+' * plus}.{decimals}f"
    return f"[{low:{form}}, {high:{form}}]"


def spread(found: Estimate | Difference | Correlation | None, plus: bool = False, decimals: int = 2) -> str:
    """The interval of a value; `-` where there is none."""
    return interval(found.low, found.high, plus, decimals) if found else "-"


def points(value: float) -> str:
    """`1 point`, `0.5 points`."""
    return ACCURACY.amount(value)


def columns(comparison: Comparison) -> list[str]:
    """The heads of the columns that every table of arms has."""
    heads = {cell.measure.head for cell in comparison.cells} or {ACCURACY.head}
    score = heads.pop() if len(heads) == 1 else Measure.head
    both = ["this test set", "new images"] if comparison.recorded else ["95 % interval"]
    arm = "attention" if comparison.recorded else "arm"
    return [arm, "n", score, *both, f"to {comparison.baseline}", *both, "p", "equivalence", "verdict"]


class Entry(NamedTuple):
    """What stands in a column of a table of arms."""

    text: str
    key: object
    """What its rows are sorted by."""
    coloured: bool = False
    """Whether it takes the colour of the verdict."""


def entries(arm: Arm) -> list[Entry]:
    """An arm in those columns; those that compare are empty for the baseline."""
    places, score, found = arm.sample.measure.decimals, arm.score, arm.contrast
    failed = f" ({len(arm.failed)} failed)" if arm.failed else ""
    own = [Entry(arm.name, arm.name.lower()), Entry(f"{score.n}{failed}", score.n)]
    own += [Entry(f"{score.mean:.{places}f}", score.mean), *_spans(arm, arm.score, arm.new_images)]
    if found is None:
        return [*own, *[Entry("", "")] * (len(own) + 1)]
    gap, verdict = found.difference, found.verdict
    return [
        *own,
        Entry(signed(gap.mean, places), gap.mean, coloured=True),
        *_spans(arm, gap, found.new_images, plus=True),
        Entry(p_text(verdict.p_value), verdict.p_value),
        Entry(p_text(verdict.equivalence_p), verdict.equivalence_p),
        Entry(kind(verdict), verdict.kind, coloured=True),
    ]


def kind(verdict: Verdict) -> str:
    """The answer in a word or two."""
    return "not yet" if verdict.waiting else verdict.kind


def arm_row(arm: Arm) -> list[str]:
    """The texts of an arm in those columns."""
    return [entry.text for entry in entries(arm)]


def _spans(arm: Arm, here: Estimate | Difference, new: Estimate | None, plus: bool = False) -> list[Entry]:
    """The intervals for this test set and, where there may be predictions, for new images."""
    places = arm.sample.measure.decimals
    known = [Entry(spread(here, plus, places), here.low)]
    return [*known, Entry(spread(new, plus, places), new.low if new else "")] if arm.recorded else known


def sentence(contrast: Contrast, cell: Cell) -> str:
    """The verdict with its evidence and the regime it is about, in one plain sentence."""
    gap, measure = contrast.difference, cell.measure
    where = " ".join([*([cell.name] if cell.name else []), *([f"({cell.regime})"] if cell.regime else [])])
    seeds = f"n = {gap.n} pairs" if contrast.pairing == "paired" else f"n = {gap.n} + {gap.n_baseline} seeds"
    size = f"{signed(gap.mean, measure.decimals)} {measure.steps}".rstrip()
    found = f"{size}, 95 % interval {spread(gap, plus=True, decimals=measure.decimals)}, {seeds}"
    tests = f"; {_tests(contrast)}" if contrast.verdict.waiting is None else ""
    answer = f"{_answer(contrast, measure)} ({found}{tests}){_apart(contrast)}"
    said = f"{answer}{_failures(contrast, cell)}{_outlook(contrast)}"
    return f"{where}: {said}" if where else said


def changed(comparison: Comparison) -> str:
    """What of the plan is other than before the first run, in a sentence; nothing where all is the same."""
    said = ", ".join(comparison.changes)
    return f"Of this study's plan, {said} after the first run." if said else ""


def failures(arm: Arm, rule: Failures) -> str:
    """How many runs of an arm failed, and what they count as; nothing where none did."""
    if not arm.failed:
        return ""
    several = len(arm.failed) > 1
    said = f"{len(arm.failed)} of {len(arm.seeds)} runs of {arm.name} failed and"
    if rule == "drop":
        return f"{said} {'are' if several else 'is'} left out"
    worst = f"{arm.values[arm.sample.seeds.index(arm.failed[0])]:.3g} {arm.sample.measure.unit}".rstrip()
    return f"{said} {'score' if several else 'scores'} {'chance level, ' * arm.recorded}{worst}"


def _failures(contrast: Contrast, cell: Cell) -> str:
    """The failed runs of both arms, as a clause."""
    said = [failures(arm, cell.plan.failures) for arm in cell.arms if arm.name in (contrast.arm, contrast.other)]
    return "".join(f"; {each}" for each in said if each)


def design_lines(design: Design) -> list[str]:
    """What a design can say and what it cannot, before anything is trained."""
    n, family, pairing = design.seeds, design.family, design.pairing
    reach = min(1.0, smallest_p(n, n, pairing) * family)
    head = f"design: {n} seeds an arm, {family} comparison{'s' * (family != 1)} in the family"
    lines = [f"{head}, smallest reachable p {p_text(reach)} with Holm's correction"]
    if can_decide(n, n, family, pairing):
        size = detectable(n, n, family, pairing)
        lines.append(
            f"a true difference of {size:.1f} standard deviations between seeds is found with about 80 % probability"
        )
    else:
        enough = seeds_to_decide(family, pairing)
        lines.append(f"Too few seeds for any significant result; use at least {enough} per arm")
    bound = equivalence_spread(n, n, design.margin, family, pairing)
    lines.append(
        f"equivalence within {points(design.margin)} can pass where that standard deviation is below {bound:.2f} points"
        if bound
        else "equivalence cannot be shown with one seed per arm: the spread between seeds is unknown"
    )
    return lines


def _answer(contrast: Contrast, measure: Measure) -> str:
    verdict, arm, other = contrast.verdict, contrast.arm, contrast.other
    within = measure.amount(verdict.margin)
    if verdict.kind == "equivalent":
        return f"{arm} and {other} are equivalent within {within}"
    if verdict.waiting:
        return f"{arm} against {other}: not yet"
    if verdict.kind == "undecided":
        return f"{arm} against {other} is undecided"
    return f"{arm} is {verdict.kind} than {other}" + (
        f", but within the margin of {within}" if verdict.within_margin else ""
    )


def _tests(contrast: Contrast) -> str:
    verdict = contrast.verdict
    parts = [f"{(PAIRS if verdict.simultaneous else TEST)[contrast.pairing]}: p {p_text(verdict.p_value)}"]
    if verdict.kind in ("equivalent", "undecided") or verdict.within_margin:
        parts.append(f"two one-sided t tests: p {p_text(verdict.equivalence_p)}")
    if verdict.simultaneous:
        family = f"one of {verdict.family} possible pairs, over all of which p and interval hold"
    else:
        family = f"Holm's correction in a family of {verdict.family}" if verdict.family > 1 else "a single comparison"
    return ", ".join([*parts, family])


def _apart(contrast: Contrast) -> str:
    """Why an interval without 0 is no better and no worse, as a clause."""
    gap, verdict = contrast.difference, contrast.verdict
    if verdict.kind in ("better", "worse") or verdict.waiting or not (gap.low > 0 or gap.high < 0):
        return ""
    if verdict.family > 1 and not verdict.simultaneous and verdict.alone and verdict.alone.p_value < ALPHA:
        return f"; the interval is of this comparison alone, the verdict of a family of {verdict.family}"
    return "; the interval excludes 0, and p, which a verdict takes too, is not below 0.05"


def waits(waiting: Waiting, contrast: Contrast) -> str:
    """Why there is no verdict yet."""
    if waiting.arm not in (contrast.arm, contrast.other):
        return f"verdicts are given at {waiting.at} seeds, of which {waiting.arm} has {waiting.done}"
    return f"verdicts are given at {waiting.at} seeds, {waiting.done} {'is' if waiting.done == 1 else 'are'} done"


def _outlook(contrast: Contrast) -> str:
    """For an open question: how many more seeds would answer it."""
    verdict, gap = contrast.verdict, contrast.difference
    if verdict.waiting:
        return f"; {waits(verdict.waiting, contrast)}."
    if verdict.kind != "undecided":
        return "."
    if min(gap.n, gap.n_baseline) < 2:
        return f"; one seed cannot decide, {seeds_to_decide(verdict.family, contrast.pairing)} seeds an arm can."
    if verdict.further is None:
        return f"; even {MOST_SEEDS:,} seeds an arm would not decide with 80 % probability."
    return f"; about {verdict.further} more seed{'s' * (verdict.further != 1)} an arm decide with 80 % probability."
