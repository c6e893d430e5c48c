"""Records to a comparison: arms grouped into cells, and each arm's verdict against the baseline."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.cells import Cell, baseline_of, cell_warnings
from attnbench.analysis.recorded import label_of, record_warnings, recorded_cells, shared
from attnbench.analysis.stats import Estimate, superiority
from attnbench.analysis.verdicts import Design, Plan
from attnbench.errors import StoreProblem
from attnbench.spec.arm import ArmKey, labels
from attnbench.spec.run import canonical
from attnbench.spec.study import Study
from attnbench.store.runs import RunRecord, Store


@dataclass(frozen=True)
class Comparison:
    """What a report shows."""

    name: str
    plan: Plan
    cells: tuple[Cell, ...]
    missing: int = 0
    """Runs that the study asks for and that are not done."""
    warnings: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        """The arm that every other is compared with."""
        return self.plan.baseline

    @property
    def recorded(self) -> bool:
        """Whether more than scores is known of its runs: their records."""
        return all(cell.recorded for cell in self.cells)


@dataclass(frozen=True)
class Overall:
    """A mechanism against the baseline over several cells."""

    arm: str
    superiority: Estimate
    """P(a run of the arm beats a run of the baseline), stratified by cell."""
    rank: float
    """Mean rank of its mean score among the arms that all these cells have; 1 is the best."""


def across(comparison: Comparison) -> list[Overall]:
    """Every mechanism that is compared in each of at least two cells; descriptive, beside the cells' own verdicts."""
    from scipy.stats import rankdata

    cells = [cell for cell in comparison.cells if cell.baseline is not None]
    if len(cells) < 2:
        return []
    tables = [{arm.key: arm for arm in cell.arms} for cell in cells]
    common = [key for key in tables[0] if all(key in table for table in tables)]
    ranks = [rankdata([-table[key].sample.merits.mean() for key in common]) for table in tables]
    return [
        Overall(
            tables[0][key].name,
            superiority(
                [
                    (table[key].sample.merits, cell.baseline.sample.merits)
                    for cell, table in zip(cells, tables, strict=True)
                    if cell.baseline is not None
                ]
            ),
            float(np.mean([rank[place] for rank in ranks])),
        )
        for place, key in enumerate(common)
        if tables[0][key] is not cells[0].baseline
    ]


def compare(
    study_or_records: Study | Iterable[RunRecord], store: Store | None = None, plan: Plan | None = None
) -> Comparison:
    """Compare every arm with the baseline, cell by cell.

    Args:
        study_or_records: a study, whose runs are looked up in `store`, or records.
        store: the folder of runs; None for the default.
        plan: how records are analysed; a study's file says it itself.
    """
    if not isinstance(study_or_records, Study):
        return _comparison("records", plan or Plan(), list(study_or_records), 0)
    study = study_or_records
    home = store or Store.default()
    planned = study.runs()
    records = [record for spec in planned if (record := home.record(spec.id)) is not None]
    missing = len(planned) - sum(record.done for record in records)
    declared = Plan(study.baseline, study.margin, study.pairing)
    return _comparison(study.name, declared, records, missing)


def designs(study: Study) -> list[Design]:
    """The different designs of a study's cells, before anything is trained; cells without a comparison left out."""
    arms: dict[str, dict[ArmKey, str | None]] = defaultdict(dict)
    for spec in study.runs():
        form = canonical(spec)
        arms[repr(shared(form))][ArmKey.of(form)] = spec.resolved.attention.placed.site
    families = {len(found) - 1 for found in arms.values() if baseline_of(labels(found), study.baseline) is not None}
    return [Design(len(study.seed_list), family, study.margin, study.pairing) for family in sorted(families - {0})]


def _comparison(name: str, plan: Plan, records: list[RunRecord], missing: int) -> Comparison:
    untested = sum(record.scored == "val" for record in records)
    if untested and untested == len(records):
        raise StoreProblem(f"{name}: its runs are scored on validation images only: no test accuracy to compare")
    records = [record for record in records if record.scored == "test"]
    cells = recorded_cells([record for record in records if record.done], plan)
    warnings = [
        f"run {record.id}, {label_of(record)} seed {record.spec['seed']} failed: {record.error}; "
        "means are over the runs that did not"
        for record in records
        if not record.done
    ]
    if untested:
        warnings.append(f"{untested} runs are scored on validation images only and are left out")
    for cell in cells:
        warnings += [*cell_warnings(cell), *record_warnings(cell)]
    return Comparison(name, plan, tuple(cells), missing, tuple(warnings))
