"""The comparison as Markdown and CSV."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from attnbench.analysis.best import Best, best_of
from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.stats import Difference, Estimate
from attnbench.analysis.verdicts import Contrast
from attnbench.console import inert, listed, printable
from attnbench.report.across import Section, csv_rows, sections
from attnbench.report.best import best_sentence
from attnbench.report.evidence import QUALITY, Quality, decomposition
from attnbench.report.markup import markdown_table
from attnbench.report.sentences import changed, sentence
from attnbench.report.text import arm_row, columns, kind, points, signed, spread
from attnbench.store.runs import RunRecord

RECORDED = (
    "Each row is one mechanism, trained with n seeds: its mean test accuracy in percent. Difference to {baseline} in "
    "percentage points. Intervals are 95 %: for this test set (what is expected over seeds on these images: Wilson's "
    "by Student's t, for differences {t}) and for new images like these (seeds and images both vary)."
)
SCORED = (
    "Each row is one arm, trained with n seeds: its mean score. Difference to {baseline} in the unit of the scores, of "
    "percentages in points. Intervals are 95 %, of what is expected over seeds (Student's t, for differences {t})."
)
TESTED = (
    "p: {test}; equivalence: p of two one-sided {same} for a margin of {margin}. Both are corrected by Holm's method "
    "over the {arms} that a data set compares with {baseline}, and hold over all looks: {looks}. Intervals of "
    "differences on this test set hold over all looks too, each for its comparison alone."
)
WORDS = ("attention", "arm", "this test set", "new images", "95 % interval", "verdict")
"""Heads of the columns that hold words or intervals, which stand to the left; numbers stand to the right."""
WHY = (
    "What the controls say, in points of accuracy on this test set, intervals not corrected for their number; where "
    "scale, parameters and input dependence are told, they add up to the gain."
)
_TESTS = {
    "independent": (
        "Welch's",
        "the larger one of the studentised permutation test and Welch's",
    ),
    "paired": (
        "Student's over pairs",
        "sign-flip test of equal seeds as pairs",
    ),
}


def write_csv(comparison: Comparison, qualities: Sequence[Sequence[Quality]], folder: Path) -> list[Path]:
    """Write `cells.csv`, a row per arm, `runs.csv`, a row per run, and for several cells `across.csv`; their paths."""
    rows = {"cells": _cell_rows(comparison, qualities), "runs": _run_rows(comparison)}
    if comparison.across:
        rows["across"] = csv_rows(comparison)
    for name, each in rows.items():
        _write(folder / f"{name}.csv", each)
    return [folder / f"{name}.csv" for name in rows]


def markdown(comparison: Comparison) -> str:
    """The whole report as one page."""
    parts = [f"# {plain(comparison.name)}\n", body(comparison)]
    parts += ["\n".join(_across(section)) for section in sections(comparison)]
    if comparison.missing:
        parts.append(f"**{comparison.missing} runs of this study are not done yet.**\n")
    if comparison.changes:
        parts.append(f"**{plain(changed(comparison))}**\n")
    parts += [f"**Warning:** {plain(warning)}.\n" for warning in comparison.warnings]
    return "\n".join(parts)


def body(comparison: Comparison) -> str:
    """The verdicts in sentences, then the tables."""
    found = "".join(f"* {plain(verdict)}\n" for verdict in verdicts(comparison))
    return "\n".join([*([found] if found else []), tables(comparison)])


def tables(comparison: Comparison) -> str:
    """A table per cell, with a caption that says what varied, which estimand and n."""
    lines = [line for cell in comparison.cells for line in [*_table(cell, columns(comparison)), *_why(cell)]]
    return "\n".join([*lines, plain(caption(comparison)), ""])


def caption(comparison: Comparison) -> str:
    """What the columns of the table are."""
    (t, test), same = _TESTS[comparison.plan.pairing], "t tests"
    said, arms = (RECORDED, "mechanisms") if comparison.recorded else (SCORED, "arms")
    if comparison.plan.looks == "any":
        t, test, same = "bets on signs", "bets on the signs of differences at equal seeds", "bets"
    return f"{said} {TESTED}".format(
        baseline=comparison.baseline,
        t=t,
        test=test,
        same=same,
        margin=margins(comparison),
        arms=arms,
        looks=_looks(comparison),
    )


def _looks(comparison: Comparison) -> str:
    """How the looks share the error, in words."""
    looks = comparison.plan.looks
    if looks == "any":
        return "there may be one after every run"
    if looks is None:
        return "a first look spends 4 of the 5 %, the rest is for seeds that are added later"
    return "there is one" if len(looks) == 1 else f"those at {listed([str(n) for n in looks])} seeds share the 5 %"


def margins(comparison: Comparison) -> str:
    """The margin of equivalence in words; each once, where cells have several."""
    found = [cell.measure.amount(cell.plan.margin) for cell in comparison.cells]
    return " or ".join(dict.fromkeys(found or [points(comparison.plan.margin)]))


def verdicts(comparison: Comparison) -> list[str]:
    """Every verdict in a sentence, cell by cell, and after those of a cell which of its arms may be the best."""
    found = []
    for cell in comparison.cells:
        found += [sentence(arm.contrast, cell) for arm in cell.arms if arm.contrast]
        found += [text] if (text := best_sentence(cell)) else []
    return found


def _table(cell: Cell, heads: list[str]) -> list[str]:
    costs = [format(arm.records[0].cost["parameters"], ",") if arm.records else "-" for arm in cell.arms]
    rows = [
        [plain(arm.name), *arm_row(arm)[1:], *[cost] * cell.recorded]
        for arm, cost in zip(cell.arms, costs, strict=True)
    ]
    shown = [*map(plain, heads), *["parameters"] * cell.recorded]
    align = "".join("l" if head in WORDS else "r" for head in shown)
    return [f"**{plain(cell.name)}**: {plain(cell.about)}.", "", *markdown_table(shown, rows, align), ""]


def _across(section: Section) -> list[str]:
    """What cells say together: sentences, the table, and what so few data sets cannot say."""
    lines = [f"## {plain(section.title)}", "", *(f"* {plain(text)}" for text in section.sentences), ""]
    lines += markdown_table(section.heads, (map(plain, row) for row in section.rows))
    return [*lines, "", plain(section.caption), "", *(f"* {plain(text)}." for text in section.limits), ""]


def _why(cell: Cell) -> list[str]:
    """What the controls and the other gates say, where any were run."""
    steps = decomposition(cell)
    if not steps:
        return []
    heads = ["attention", "part", "compared", "n", "points", "95 % interval"]
    rows = [(plain(step.arm), step.part, plain(step.what), step.estimate.n, *_effect(step.estimate)) for step in steps]
    return [WHY, "", *markdown_table(heads, rows, "lllrrl"), ""]


def _effect(found: Estimate) -> tuple[str, str]:
    return signed(found.mean), spread(found, plus=True)


def _cell_rows(comparison: Comparison, qualities: Sequence[Sequence[Quality]]) -> Iterable[dict[str, object]]:
    recorded, (first, _, score, *_) = comparison.recorded, columns(comparison)
    for cell, own in zip(comparison.cells, qualities, strict=True):
        by_arm, best = {each.arm: each for each in own}, best_of(cell)
        for arm in cell.arms:
            yield {
                "cell": cell.name,
                first: arm.name,
                "n": arm.score.n,
                "failed": len(arm.failed),
                score: arm.score.mean,
                **_bounds(score, arm.score),
                **(_bounds(f"{score}_new_images", arm.new_images) if recorded else {}),
                **_compared(arm.contrast, recorded),
                "among_best": _among(arm, best),
                **(_quality(by_arm.get(arm.name)) if recorded else {}),
            }


def _among(arm: Arm, best: Best | None) -> str:
    """Whether an arm cannot be told from the best; empty for a control, or where nothing is said of the best."""
    if best is None or arm.name not in best.candidates:
        return ""
    return "yes" if arm.name in best.among else "no"


def _quality(found: Quality | None) -> dict[str, object]:
    """The columns of what the logits say beside accuracy; empty where they are missing."""
    means: dict[str, object] = {name: found.estimates[name].mean if found else "" for name in QUALITY}
    return means | {"ece_if_calibrated": found.ece_if_calibrated if found else ""}


def _compared(found: Contrast | None, recorded: bool) -> dict[str, object]:
    """The columns of a comparison with the baseline; empty for the baseline."""
    gap, verdict = (found.difference, found.verdict) if found else (None, None)
    return {
        "difference": gap.mean if gap else "",
        **_bounds("difference", gap),
        **(_bounds("difference_new_images", found.new_images if found else None) if recorded else {}),
        "p": gap.p_value if gap else "",
        "p_holm": verdict.p_value if verdict else "",
        "equivalence_p_holm": verdict.equivalence_p if verdict else "",
        "margin": verdict.margin if verdict else "",
        "family": verdict.family if verdict else "",
        "verdict": kind(verdict) if verdict else "",
        "further_seeds": verdict.further if verdict and verdict.further is not None else "",
        "correlation": found.correlation.r if found else "",
        "pairing_saved": found.correlation.saved if found else "",
        **({"churn": found.churn.mean if found and found.churn else ""} if recorded else {}),
    }


def _bounds(name: str, found: Estimate | Difference | None) -> dict[str, object]:
    return {f"{name}_low": found.low if found else "", f"{name}_high": found.high if found else ""}


def _run_rows(comparison: Comparison) -> Iterable[dict[str, object]]:
    first, _, score, *_ = columns(comparison)
    for cell in comparison.cells:
        for arm in cell.arms:
            for seed, value, record in arm.runs:
                row = {"cell": cell.name, first: arm.name, "seed": seed, score: value}
                if arm.recorded:
                    yield {"id": record.id if record else "failed", **row, **(_cost(record) if record else {})}
                else:
                    yield {**row, "failed": seed in arm.failed}


def _cost(record: RunRecord) -> dict[str, object]:
    return {
        "parameters": record.cost["parameters"],
        "macs": record.cost["macs"],
        "train_cpu_seconds": record.train_seconds if record.clock == "cpu" else "",
        "train_wall_seconds": record.timings.get("train", ""),
        "weights_sha256": record.weights_sha256,
    }


def _write(file: Path, rows: Iterable[dict[str, object]]) -> None:
    listed = list(rows)
    with file.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, list(dict.fromkeys(name for row in listed for name in row)) or ["cell"])
        writer.writeheader()
        writer.writerows({name: inert(value) for name, value in row.items()} for row in listed)


def plain(text: str) -> str:
    """Text that cannot break out of a Markdown table or become HTML."""
    for special in "\\|[]":
        text = text.replace(special, f"\\{special}")
    return printable(" ".join(text.replace("<", "&lt;").splitlines()))
