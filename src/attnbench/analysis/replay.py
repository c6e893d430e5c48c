"""A comparison told again from records and a plan as a journal keeps it, without the file and the code of the study."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnbench.analysis.comparison import Comparison
from attnbench.analysis.plan import Plan
from attnbench.analysis.recorded import absent, planned_key, recorded_cells, times_told
from attnbench.spec.arm import ArmKey
from attnbench.store.runs import RunRecord
from attnbench.store.studies import Seen


@dataclass(frozen=True)
class Declared:
    """What was declared of some runs; without a study nothing but the defaults is."""

    plan: Plan = field(default_factory=Plan)
    seeds: tuple[int, ...] = ()
    cells: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Cell -> its arms, as files name both."""

    @classmethod
    def of(cls, parts: Mapping[str, Any], tuned: Sequence[str]) -> "Declared":
        """From the parts of a plan as JSON has them; `tuned` is no part of it, but of the study's file."""
        looks = tuple(parts["looks"]) if isinstance(parts["looks"], list) else parts["looks"]
        plan = Plan(parts["baseline"], parts["margin"], parts["pairing"], looks, parts["failures"], tuple(tuned))
        return cls(plan, tuple(parts["seeds"]), parts["cells"])

    def place(self, record: RunRecord) -> tuple[str, str, int]:
        """The cell, the arm and the seed of a run, as a plan names them."""
        return planned_key(record, self.plan), ArmKey.of(record.canonical).text, record.spec["seed"]

    @property
    def places(self) -> set[tuple[str, str, int]]:
        """All that are planned."""
        return {(cell, arm, seed) for cell, arms in self.cells.items() for arm in arms for seed in self.seeds}


def replayed(
    name: str, declared: Declared, records: Iterable[RunRecord], seen: Sequence[Seen], wholes: Sequence[Seen]
) -> Comparison:
    """The comparison of records under what was declared: that of `compare`, less its warnings.

    Args:
        records: done and failed; those that are scored on validation images are left out.
        seen: what was seen at earlier looks.
        wholes: what was known of all cells together at those that were of all.
    """
    tested = [record for record in records if record.scored == "test"]
    known = {key.text: key for key in (ArmKey.of(record.canonical) for record in tested)}
    planned = {
        cell: {known.get(arm, ArmKey(arm)): declared.seeds for arm in arms} for cell, arms in declared.cells.items()
    }
    cells = recorded_cells(tested, declared.plan, planned, seen)
    told, lacking = times_told(cells, wholes), absent(tested, declared.plan, planned)
    return Comparison(name, declared.plan, tuple(cells), told=told, absent=lacking)
