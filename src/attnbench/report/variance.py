"""What moves an accuracy from run to run, as a sheet: `attnbench variance`."""

import math
from collections.abc import Sequence

from attnbench.analysis.variance import TOGETHER, Budget, Deviation
from attnbench.report.sheet import Sheet
from attnbench.report.text import interval

WORDS = {
    "init": "initial weights",
    "order": "order of images",
    "augment": "augmentation",
    "noise": "noise in the network",
    "split": "split of the images",
    TOGETHER: "all but the split together",
}
TEST_SET = "another test set (binomial)"


def sheet(name: str, arm: str, budgets: Sequence[Budget]) -> Sheet:
    """A row for each source of chance in each cell."""
    rows = [row for each in budgets for row in _rows(each)]
    drawn = [
        {"source": WORDS[source], "cell": each.cell, "mean": part.points, "low": part.low, "high": part.high}
        for each in budgets
        for source, part in each.parts.items()
        if part.n > 1
    ]
    return Sheet(
        title=f"{name}: what moves the accuracy of {arm}",
        sentences=[line for each in budgets for line in _sentences(each, arm)],
        heads=["cell", "varied", "n", "SD (points)", "95 %", "of the variance together"],
        rows=rows,
        caption=(
            "SD: standard deviation of the test accuracy in percentage points over n runs in which only this source "
            "follows the seed, all others being as under seed 0; 95 % interval by chi-square, for accuracies that are "
            "about normal. Sources act on each other, so that their variances need not add up to that of all "
            "together. The last row is no seed's: what drawing another test set of this size adds, "
            "sqrt(p (1 - p) / N); where a split is varied and the test images are cut from the rest, that row's SD "
            "holds it."
        ),
        data=[row for each in budgets for row in _data(each)],
        chart=_chart(drawn, budgets),
    )


def _rows(each: Budget) -> list[list[str]]:
    found = [
        [each.cell, WORDS[source], str(part.n), *_spread(part), _share(each, source)]
        for source, part in each.parts.items()
    ]
    return [*found, [each.cell, TEST_SET, f"{each.images:,} images", f"{each.binomial:.2f}", "-", "-"]]


def _spread(part: Deviation) -> list[str]:
    return ["-" if math.isnan(part.points) else f"{part.points:.2f}", interval(part.low, part.high)]


def _share(each: Budget, source: str) -> str:
    share = each.share(source)
    return "-" if math.isnan(share) or source == TOGETHER else f"{100 * share:.0f} %"


def _data(each: Budget) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [
        {"cell": each.cell, "varied": of, **vars(part)} for of, part in each.parts.items()
    ]
    return [*found, {"cell": each.cell, "varied": "test set", "points": each.binomial, "n": each.images}]


def _sentences(each: Budget, arm: str) -> list[str]:
    alone = {source: part.points for source, part in each.parts.items() if source not in (TOGETHER, "split")}
    known = {source: points for source, points in alone.items() if not math.isnan(points)}
    whole = each.together
    said = []
    if known and not math.isnan(whole.points):
        most = max(known, key=lambda source: known[source])
        added = math.sqrt(sum(points**2 for points in known.values()))
        said.append(
            f"{each.cell}: between seeds, the accuracy of {arm} has a standard deviation of {whole.points:.2f} points "
            f"(95 % {interval(whole.low, whole.high)}, n = {whole.n}); alone, most comes from the {WORDS[most]} "
            f"({known[most]:.2f}); the sources alone would add up to {added:.2f}"
        )
    said += [f"{each.cell}: {WORDS[source]} not varied: {why}" for source, why in each.without.items()]
    said += [_pairing(each.cell, other, found.saved, found.saved_low, found.saved_high, found.n)
             for other, found in each.pairs.items()]  # fmt: skip
    if not each.pairs:
        said.append(f"{each.cell}: what pairing by seeds saves is told once another arm of the study is done, too")
    if each.failed:
        said.append(f"{each.cell}: {each.failed} runs failed and are left out")
    return said


def _pairing(cell: str, other: str, saved: float, low: float, high: float, n: int) -> str:
    if math.isnan(saved):
        return f"{cell}: whether pairing with {other} saves runs cannot be told: an accuracy does not vary"
    return (
        f"{cell}: pairing with {other} by seed divides the runs that a difference needs by {saved:.2f} "
        f"(95 % {interval(low, high)}, n = {n} pairs)"
    )


def _chart(rows: Sequence[dict[str, object]], budgets: Sequence[Budget]) -> dict[str, object]:
    from attnbench.report.charts import intervals

    by = "cell" if len(budgets) > 1 else ""
    marks = [budgets[0].binomial] if len(budgets) == 1 else []
    order = [word for word in WORDS.values() if any(row["source"] == word for row in rows)]
    return intervals(rows, "source", order, "standard deviation (points); dashed: another test set", marks, by)
