"""What a study can say before it is trained, as a sheet: `attnbench power`."""

from collections.abc import Sequence

from attnbench.analysis.power import MOST_SEEDS
from attnbench.analysis.prospects import Prospect
from attnbench.report.designs import design_lines
from attnbench.report.sheet import Sheet
from attnbench.report.text import points

DRAWN_SEEDS = (3, 5, 8, 12, 20)


def sheet(name: str, prospects: Sequence[Prospect]) -> Sheet:
    """Sentences and a row of the table for each design and true difference, and a figure of the largest family."""
    rows, data = [], []
    for each in prospects:
        for size in each.sizes:
            enough, design = each.seeds_for(size), each.design
            true = size * each.spread.points if each.spread else None
            share = each.found(size)
            shown = f"{true:.2f}" if true is not None else "-"
            needed = str(enough) if enough else f"more than {MOST_SEEDS:,}"
            rows.append([str(design.family), shown, f"{size:.2f}", f"{100 * share:.0f} %", needed])
            data.append(
                {"family": design.family, "seeds": design.seeds, "points": true, "deviations": size}
                | {"probability": share, "seeds_for_80": enough}
            )
    widest = max(prospects, key=lambda each: each.design.family)
    return Sheet(
        title=f"{name}: what this design can say",
        sentences=[line for each in prospects for line in _sentences(each)],
        heads=["comparisons", "true difference (points)", "in SDs", "found by this design", "seeds for 80 %"],
        rows=rows,
        caption=(
            "SD: the standard deviation between seeds"
            + (" (of the pairs' differences)" if widest.design.pairing == "paired" else "")
            + ". Found: a verdict better or worse at one look at all seeds, by Student's t test at the first step of "
            "Holm's correction; verdicts at several looks share the 5 % and find less at each. The figure is of the "
            f"family of {widest.design.family}, for several numbers of seeds an arm; dashed: 80 %."
        ),
        data=data,
        chart=_chart(widest),
    )


def _sentences(each: Prospect) -> list[str]:
    design, spread = each.design, each.spread
    said = design_lines(design)
    if spread is None:
        return [*said, "the spread between seeds is not known here: give --spread POINTS, or train a few runs"]
    known = f"the spread between seeds is {spread.points:.2f} points, {spread.source}"
    enough = each.seeds_to_decide
    decide = f"about {enough} seeds an arm decide" if enough else f"even {MOST_SEEDS:,} seeds an arm do not decide"
    return [
        *said,
        f"{known}: {decide} with 80 % probability, whether the true difference is {points(design.margin)} or none",
    ]


def _chart(each: Prospect) -> dict[str, object]:
    from attnbench.report.charts import curves

    unit = each.spread.points if each.spread else 1.0
    reach = max(each.sizes)
    numbers = sorted({*DRAWN_SEEDS, each.design.seeds})
    rows = [
        {"curve": f"{seeds} seeds", "x": step * reach * unit / 40, "y": 100 * each.found(step * reach / 40, seeds)}
        for seeds in numbers
        for step in range(41)
    ]
    across = "true difference (points)" if each.spread else "true difference (standard deviations between seeds)"
    order = [f"{seeds} seeds" for seeds in numbers]
    return curves(rows, order, across, "found (%)", marks=[80.0])
