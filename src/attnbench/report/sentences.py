"""A verdict in one plain sentence, with its evidence, its tests, its look, and what would answer an open question."""

import math
from collections.abc import Iterable

from attnbench.analysis.cells import Cell
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.measure import Measure
from attnbench.analysis.plan import Failures, Plan
from attnbench.analysis.power import MOST_SEEDS
from attnbench.analysis.resampling import FLIPS_UP_TO, LARGE, RESAMPLES, exact
from attnbench.analysis.sample import Sample
from attnbench.analysis.stats import ALPHA
from attnbench.analysis.verdicts import Contrast, Verdict, Waiting
from attnbench.console import joined, listed
from attnbench.report.evidence import Step
from attnbench.report.text import counted, kind, p_text, signed, spread

WORDS = {
    "scale": "the scale of a gate alone",
    "parameters": "learned numbers that never look at the image",
    "input dependence": "looking at the image",
    "scale and parameters": "a scale together with learned numbers that never look at the image",
    "parameters and input dependence": "learned numbers together with looking at the image",
}
"""The steps from the plain network up to a mechanism, in words; two of them are one where a control was not run."""


def sentence(contrast: Contrast, cell: Cell) -> str:
    """The verdict with its evidence and the regime it is about, in one plain sentence."""
    where = " ".join([*([cell.name] if cell.name else []), *([f"({cell.regime})"] if cell.regime else [])])
    tests = f"; {_tests(contrast)}; {at_look(contrast.verdict, cell.plan)}" if contrast.verdict.waiting is None else ""
    answer = f"{_answer(contrast, cell.measure)} ({_evidence(contrast, cell.measure)}{tests}){_apart(contrast)}"
    said = f"{answer}{_failures(contrast, cell)}{_outlook(contrast)}"
    return f"{where}: {said}" if where else said


def changed(comparison: Comparison) -> str:
    """What of the plan is other than before the first run, in a sentence; nothing where all is the same."""
    said = ", ".join(comparison.changes)
    return f"Of this study's plan, {said} after the first run." if said else ""


def verdict_sentences(comparison: Comparison) -> list[tuple[str, str]]:
    """Kind and sentence of every comparison with the baseline, cell by cell."""
    return [
        (kind(arm.contrast.verdict), sentence(arm.contrast, cell))
        for cell in comparison.cells
        for arm in cell.arms
        if arm.contrast
    ]


def because(cell: Cell, steps: Iterable[Step]) -> list[str]:
    """What the controls say of each mechanism's gain, a sentence each; none without controls.

    Args:
        steps: `decomposition(cell)`.
    """
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(step.arm, []).append(step)
    said = []
    for arm, own in found.items():
        parts = [f"{WORDS[each.part]} {_points(each)}" for each in own if each.part in WORDS]
        more = [f"{each.part} {_points(each)}" for each in own if each.part not in WORDS]
        gain = cell.arm(arm).difference
        if parts and gain:
            said.append(f"What {arm} gains ({signed(gain.mean)} points) is made of: {joined(parts)}.")
        if more:
            said.append(f"{arm}, other comparisons: {joined(more)}.")
    return said


def _points(step: Step) -> str:
    return f"{signed(step.estimate.mean)} {spread(step.estimate, plus=True)}"


def failures(sample: Sample, rule: Failures, recorded: bool) -> str:
    """How many of an arm's runs failed, and what they count as; nothing where none did."""
    failed, seeds = [seed for seed in sample.seeds if seed in sample.failed], sample.seeds
    if not failed:
        return ""
    several = len(failed) > 1
    said = f"{len(failed)} of {len(seeds)} runs of {sample.name} failed and"
    if rule == "drop":
        return f"{said} {'are' if several else 'is'} left out"
    worst = sample.measure.told(float(sample.values[seeds.index(failed[0])]))
    return f"{said} {'score' if several else 'scores'} {'chance level, ' * recorded}{worst}"


def at_look(verdict: Verdict, plan: Plan) -> str:
    """At which look of which plan a verdict was given."""
    if verdict.spending is None:
        return "valid at any time"
    seeds = verdict.spending.seeds
    if isinstance(plan.looks, tuple):
        if len(plan.looks) == 1:
            return "the one planned look"
        return f"look at {seeds[-1]} of the planned {listed([str(n) for n in plan.looks])} seeds"
    if len(seeds) == 1:
        return "first look, for 4 of the 5 %"
    return f"look {len(seeds)}, after {listed([str(n) for n in seeds[:-1]])} seeds: the looks share the 5 %"


def waits(waiting: Waiting, contrast: Contrast) -> str:
    """Why there is no verdict yet."""
    if waiting.arm not in (contrast.arm, contrast.other):
        return f"verdicts are given at {waiting.at} seeds, of which {waiting.arm} has {waiting.done}"
    return f"verdicts are given at {waiting.at} seeds, {waiting.done} {'is' if waiting.done == 1 else 'are'} done"


def _evidence(contrast: Contrast, measure: Measure) -> str:
    """The difference with its interval, and of how many runs."""
    gap, verdict = contrast.difference, contrast.verdict
    size = f"{signed(gap.mean, measure.decimals)} {measure.steps}".rstrip()
    alone = " of this comparison alone" if verdict.family > 1 and not verdict.simultaneous else ""
    bounds = spread(gap, plus=True, decimals=measure.decimals)
    seeds = f"n = {gap.n} pairs" if contrast.pairing == "paired" else f"n = {gap.n} + {gap.n_baseline} seeds"
    return f"{size}, 95 % interval{alone} {bounds}, {seeds}"


def _answer(contrast: Contrast, measure: Measure) -> str:
    verdict, arm, other = contrast.verdict, contrast.arm, contrast.other
    within, images = measure.amount(verdict.margin), contrast.one.images
    here = f" on these {images:,} test images" if images else ""
    if verdict.kind == "equivalent":
        return f"{arm} and {other} are equivalent within {within}{here}"
    if verdict.waiting:
        return f"{arm} against {other}{here}: not yet"
    if verdict.kind == "undecided":
        return f"{arm} against {other} is undecided{here}"
    within = f", but within the margin of {within}" if verdict.within_margin else ""
    return f"{arm} is {verdict.kind} than {other}{here}{within}"


def _tests(contrast: Contrast) -> str:
    """By which tests, and corrected for what."""
    verdict = contrast.verdict
    parts = [f"p {p_text(verdict.p_value)}{_test(contrast)}"]
    if verdict.kind in ("equivalent", "undecided") or verdict.within_margin:
        tests = "bets" if verdict.spending is None else "t tests"
        parts.append(f"equivalence p {p_text(verdict.equivalence_p)} of two one-sided {tests}")
    if verdict.simultaneous:
        family = f"one of {verdict.family} possible pairs, over all of which p and interval hold"
    elif verdict.family > 1:
        family = f"Holm's correction over {verdict.family} comparisons with {contrast.common}"
    else:
        family = f"the only comparison with {contrast.common}"
    return ", ".join([*parts, family])


def _test(contrast: Contrast) -> str:
    """Of which test of the difference a p is, with how many regroupings or flips it counted."""
    verdict, paired = contrast.verdict, contrast.pairing == "paired"
    if verdict.spending is None:
        corrected = " with Bonferroni's correction" * verdict.simultaneous
        return f" of bets on the signs of differences at equal seeds{corrected}"
    if verdict.simultaneous:
        both = ", the larger one of Games and Howell's test and the permutation test of the two"
        return " of the sign-flip test with Bonferroni's correction" if paired else both
    ways = "over all looks" if len(verdict.spending.seeds) > 1 else _ways(contrast)
    if paired:
        return f" of the sign-flip test ({ways})"
    return f", the larger one of the studentised permutation test ({ways}) and Welch's"


def _ways(contrast: Contrast) -> str:
    """How many regroupings of the runs, or flips of the pairs' signs, were counted."""
    n, m = contrast.difference.n, contrast.difference.n_baseline
    if min(n, m) >= LARGE:
        return "by its limit, the normal law"
    if contrast.pairing == "paired":
        return f"all {2**n:,} flips" if n <= FLIPS_UP_TO else f"{RESAMPLES:,} drawn flips"
    if exact(n, m):
        return f"all {math.comb(n + m, n) // (2 if n == m else 1):,} regroupings"
    return f"{RESAMPLES:,} drawn regroupings"


def _apart(contrast: Contrast) -> str:
    """Why an interval without 0 is no better and no worse, as a clause."""
    gap, verdict = contrast.difference, contrast.verdict
    if verdict.kind in ("better", "worse") or verdict.waiting or not (gap.low > 0 or gap.high < 0):
        return ""
    if verdict.family > 1 and not verdict.simultaneous and verdict.alone and verdict.alone.p_value < ALPHA:
        return "; the interval excludes 0 in this comparison alone, not in all together"
    return "; the interval excludes 0, and p, which a verdict takes too, is not below 0.05"


def _failures(contrast: Contrast, cell: Cell) -> str:
    """The failed runs that the verdict has seen, as a clause."""
    baseline_first = sorted(contrast.seen, key=lambda sample: sample.name != cell.plan.baseline)
    said = [failures(sample, cell.plan.failures, cell.recorded) for sample in baseline_first]
    return "".join(f"; {each}" for each in said if each)


def _outlook(contrast: Contrast) -> str:
    """For an open question: how many more seeds would answer it."""
    verdict, gap = contrast.verdict, contrast.difference
    if verdict.waiting:
        return f"; {waits(verdict.waiting, contrast)}."
    if verdict.kind != "undecided":
        return "."
    if verdict.needed:
        return f"; {counted(min(gap.n, gap.n_baseline), 'seed')} an arm cannot decide: run at least {verdict.needed}."
    if verdict.spending is None:
        return "; go on as long as you like."
    if verdict.further is None:
        return f"; even {MOST_SEEDS:,} seeds an arm would not decide with 80 % probability."
    if verdict.spending.planned:
        anew = min(gap.n, gap.n_baseline) + verdict.further
        return f"; a study planned anew with about {anew} seeds an arm decides with 80 % probability."
    more = counted(verdict.further, "more seed")
    return f"; about {more} an arm decide with 80 % probability, at one more look."
