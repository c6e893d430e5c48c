"""Runs beside records of the same runs made elsewhere: identical, or how far apart, arm by arm."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from attnbench.analysis.comparison import Comparison
from attnbench.store.runs import RunRecord

FEWEST = 3
"""Seeds from which a spread is known."""


@dataclass(frozen=True)
class Beside:
    """An arm's runs beside the same runs made elsewhere, seed by seed."""

    arm: str
    identical: int
    """Runs with the same weights and the same test accuracy."""
    runs: int
    """Runs that are there on both sides."""
    gap: float
    """Their mean accuracy less that of the other side, in percentage points."""
    spread: float | None
    """Twice the standard deviation of the other side's accuracies over seeds; None below three seeds."""

    def __str__(self) -> str:
        if self.identical == self.runs:
            return f"{self.arm}: all {self.runs} runs identical"
        first = f"{self.arm}: {self.identical} of {self.runs} runs identical, mean accuracy {self.gap:+.2f} points"
        if self.spread is None:
            return f"{first} (below {FEWEST} seeds no spread is known)"
        where = "within" if abs(self.gap) <= self.spread else "OUTSIDE"
        return f"{first}, {where} the spread of seeds ({self.spread:.2f})"


def beside(records: Iterable[RunRecord], elsewhere: Mapping[str, RunRecord], arm: str) -> Beside:
    """An arm's records and those of the same ids elsewhere; at least one id is in both."""
    pairs = [(record, elsewhere[record.id]) for record in records if record.id in elsewhere]
    same = [(a.weights_sha256, a.accuracy) == (b.weights_sha256, b.accuracy) for a, b in pairs]
    accuracies = [theirs.accuracy for _, theirs in pairs]
    gap = statistics.fmean(ours.accuracy for ours, _ in pairs) - statistics.fmean(accuracies)
    spread = 2 * statistics.stdev(accuracies) if len(accuracies) >= FEWEST else None
    return Beside(arm, sum(same), len(pairs), gap, spread)


def agreement(comparison: Comparison, records: Iterable[RunRecord], where: str) -> str:
    """How the runs of a comparison and records of the same runs, made `where`, agree: one line, or one for each arm."""
    elsewhere = {record.id: record for record in records if record.done}
    ours = [record for cell in comparison.cells for arm in cell.arms for record in arm.records]
    shared = [record for record in ours if record.id in elsewhere]
    if not shared:
        return f"none of these {len(ours)} runs is in {where}"
    found = [
        beside(arm.records, elsewhere, arm.name if len(comparison.cells) == 1 else f"{cell.name}: {arm.name}")
        for cell in comparison.cells
        for arm in cell.arms
        if any(record.id in elsewhere for record in arm.records)
    ]
    absent = f"; {len(ours) - len(shared)} more are not there" if len(shared) < len(ours) else ""
    if all(each.identical == each.runs for each in found):
        return f"identical to {where}: the weights and accuracies of all {len(shared)} runs{absent}"
    first = f"not identical to {where}{_reasons(shared, elsewhere)}{absent}:"
    return "\n".join([first, *(f"  {each}" for each in found)])


def _reasons(records: list[RunRecord], elsewhere: Mapping[str, RunRecord]) -> str:
    """What is known to differ besides: numerics by name, images, package code."""
    pairs = [(record, elsewhere[record.id]) for record in records]
    names = dict.fromkeys(name for pair in pairs for record in pair for name in record.numerics)
    differ = [name for name in names if any(a.numerics.get(name) != b.numerics.get(name) for a, b in pairs)]
    if any(a.data_fingerprint != b.data_fingerprint or a.split_fingerprint != b.split_fingerprint for a, b in pairs):
        differ.append("images")
    if any(a.environment.get("code") != b.environment.get("code") for a, b in pairs):
        differ.append("package code")
    return f" (other {', '.join(differ)})" if differ else ""
