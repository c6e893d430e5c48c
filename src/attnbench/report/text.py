"""Numbers, verdicts and designs as words: the same on the console, the page, in Markdown and in LaTeX."""

import math

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.power import MOST_SEEDS, can_decide, detectable, equivalence_spread, seeds_to_decide, smallest_p
from attnbench.analysis.stats import Correlation, Difference, Estimate
from attnbench.analysis.verdicts import Contrast, Design

TEST = {
    "independent": "Welch's interval, exact permutation test",
    "paired": "paired t interval, exact sign-flip test",
}


def signed(value: float) -> str:
    """A number with its sign, two decimals; `-` where there is none."""
    return "-" if math.isnan(value) else f"{value:+.2f}"


def p_text(value: float) -> str:
    """A p value to three decimals; `-` where there is none."""
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def interval(low: float, high: float, plus: bool = False) -> str:
    """`[low, high]`; `-` where one seed cannot tell."""
    if math.isnan(low):
        return "-"
    return f"[{low:+.2f}, {high:+.2f}]" if plus else f"[{low:.2f}, {high:.2f}]"


def spread(found: Estimate | Difference | Correlation | None, plus: bool = False) -> str:
    """The interval of a value; `-` where there is none."""
    return interval(found.low, found.high, plus) if found else "-"


def points(value: float) -> str:
    """`1 point`, `0.5 points`."""
    return f"{value:g} point{'' if value == 1 else 's'}"


def columns(baseline: str) -> list[str]:
    """The heads of the columns that every table of arms has."""
    both = ["this test set", "new images"]
    return ["attention", "n", "accuracy", *both, f"to {baseline}", *both, "p", "equivalence", "verdict"]


def arm_row(arm: Arm) -> list[str]:
    """An arm in those columns; the last six are empty for the baseline."""
    accuracy, found = arm.accuracy, arm.contrast
    own = [arm.name, str(accuracy.n), f"{accuracy.mean:.2f}", spread(accuracy), spread(arm.new_images)]
    if found is None:
        return [*own, *[""] * 6]
    gap, verdict = found.difference, found.verdict
    compared = [signed(gap.mean), spread(gap, plus=True), spread(found.new_images, plus=True)]
    return [*own, *compared, p_text(verdict.p_value), p_text(verdict.equivalence_p), verdict.kind]


def sentence(contrast: Contrast, cell: Cell) -> str:
    """The verdict with its evidence and the regime it is about, in one plain sentence."""
    gap, record = contrast.difference, cell.arms[0].records[0]
    regime = f"recipe {record.recipe or 'as given'}, {record.spec['epochs']} epochs"
    seeds = f"n = {gap.n} pairs" if contrast.pairing == "paired" else f"n = {gap.n} + {gap.n_baseline} seeds"
    found = f"{signed(gap.mean)} points, 95 % interval {spread(gap, plus=True)}, {seeds}"
    return f"{cell.name} ({regime}): {_answer(contrast)} ({found}; {_tests(contrast)}){_outlook(contrast)}"


def about(cell: Cell) -> str:
    """The regime of a cell in a few words, with everything by which it falls short of the whole data set."""
    record = cell.arms[0].records[0]
    limits = [(name, record.spec[name]) for name in ("train_fraction", "train_limit", "test_limit")]
    limited = [f"{name} {value}" for name, value in limits if value not in (None, 1)]
    recipe, images = record.recipe or "as given", record.test["images"]
    return ", ".join([f"{record.spec['epochs']} epochs, recipe {recipe}, {images:,} test images", *limited])


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


def _answer(contrast: Contrast) -> str:
    verdict, arm, other = contrast.verdict, contrast.arm, contrast.other
    within = points(verdict.margin)
    if verdict.kind == "equivalent":
        return f"{arm} and {other} are equivalent within {within}"
    if verdict.kind == "undecided":
        return f"{arm} against {other} is undecided"
    return f"{arm} is {verdict.kind} than {other}" + (
        f", but within the margin of {within}" if verdict.within_margin else ""
    )


def _tests(contrast: Contrast) -> str:
    verdict = contrast.verdict
    parts = [f"{TEST[contrast.pairing]}: p {p_text(verdict.p_value)}"]
    if verdict.kind in ("equivalent", "undecided") or verdict.within_margin:
        parts.append(f"two one-sided t tests: p {p_text(verdict.equivalence_p)}")
    family = f"Holm's correction in a family of {verdict.family}" if verdict.family > 1 else "a single comparison"
    return ", ".join([*parts, family])


def _outlook(contrast: Contrast) -> str:
    """For an open question: how many more seeds would answer it."""
    verdict, gap = contrast.verdict, contrast.difference
    if verdict.kind != "undecided":
        return "."
    if min(gap.n, gap.n_baseline) < 2:
        return f"; one seed cannot decide, {seeds_to_decide(verdict.family, contrast.pairing)} seeds an arm can."
    if verdict.further is None:
        return f"; even {MOST_SEEDS:,} seeds an arm would not decide with 80 % probability."
    return f"; about {verdict.further} more seed{'s' * (verdict.further != 1)} an arm decide with 80 % probability."
