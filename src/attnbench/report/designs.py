"""What the design of a study can say, in lines for the console, before anything is trained."""

from attnbench.analysis.plan import Design
from attnbench.analysis.power import detectable, equivalence_spread, smallest_p_over
from attnbench.analysis.stats import FEWEST
from attnbench.console import listed
from attnbench.report.text import counted, p_text, points


def design_lines(design: Design) -> list[str]:
    """What a design can say and what it cannot, before anything is trained."""
    n, family, pairing, spending = design.seeds, design.family, design.pairing, design.spending
    shared = f"{counted(family, 'comparison')} that share the 5 % error"
    lines = [f"design: {counted(n, 'seed')} an arm, {shared}; {_when(design)}"]
    if spending and design.needed:
        seeds = f"{counted(spending.seeds[-1], 'seed')} an arm"
        return [*lines, f"{seeds} cannot decide, and 'equivalent' is not said then: run at least {design.needed}"]
    if spending:
        last = spending.seeds[-1]
        looks = [(seeds, seeds) for seeds in spending.seeds]
        reach = min(1.0, smallest_p_over(looks, pairing) * family / float(spending.parts[-1]))
        size = detectable(last, last, family, pairing, level=design.level)
        lines.append(f"smallest p that {last} seeds can reach: {p_text(reach)}, corrected for looks and comparisons")
        lines.append(
            f"a true difference of {size:.1f} standard deviations between seeds is found with about 80 % probability"
        )
    last = spending.seeds[-1] if spending else n
    bound = equivalence_spread(last, last, design.margin, family, pairing, design.level)
    what = "the difference of a pair" if pairing == "paired" else "accuracy"
    lines.append(
        f"'equivalent' (within {points(design.margin)}) is possible only if {what} varies by less than "
        f"{bound:.2f} points between seeds"
        if bound
        else f"'equivalent' is never said of fewer than {FEWEST} seeds an arm"
    )
    return lines


def _when(design: Design) -> str:
    """When there are verdicts, in words."""
    if design.spending is None:
        return "verdicts after every seed"
    if not isinstance(design.looks, tuple):
        return "verdicts once all are there, for 4 of the 5 %; the rest is kept for seeds that are added later"
    idle = [str(n) for n in design.looks if n not in design.spending.seeds]
    said = f"verdicts at {listed([str(n) for n in design.spending.seeds])} seeds"
    if not idle:
        return said
    share = "its share goes" if len(idle) == 1 else "their shares go"
    return f"{said} (not at {listed(idle)}, which cannot decide: {share} to the next)"
