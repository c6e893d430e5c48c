"""Records to a comparison: arms grouped into cells, and each arm's verdict against the baseline."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnbench.analysis.cells import Cell, baseline_of, cell_warnings
from attnbench.analysis.recorded import label_of, record_warnings, recorded_cells
from attnbench.analysis.stats import Estimate, superiority
from attnbench.analysis.verdicts import Design, Plan
from attnbench.errors import StoreProblem
from attnbench.spec.arm import ArmKey, cell_key, labels, shared
from attnbench.spec.run import RunSpec
from attnbench.spec.study import Study
from attnbench.store.runs import RunRecord, Store
from attnbench.store.studies import StudyJournal

Place = tuple[str, ArmKey]
"""A cell as a study plans it, and an arm of it."""


@dataclass(frozen=True)
class Comparison:
    """What a report shows."""

    name: str
    plan: Plan
    cells: tuple[Cell, ...]
    missing: int = 0
    """Runs that the study asks for and that are neither done nor failed, without those that no verdict needs."""
    warnings: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    """What of the plan was changed after the first run, a few words each."""
    lost: frozenset[Place] = frozenset()
    """Arms of which runs failed and none is done: they cannot be compared."""

    @property
    def baseline(self) -> str:
        """The arm that every other is compared with."""
        return self.plan.baseline

    @property
    def decided(self) -> dict[Place, str]:
        """The arms of recorded cells that no further run changes: each with its verdict, or `failed`."""
        return dict.fromkeys(self.lost, "failed") | {
            _place(arm.records[0]): arm.contrast.verdict.kind
            for cell in self.cells
            for arm in cell.arms
            if arm.contrast and arm.contrast.verdict.kind != "undecided" and arm.records
        }

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
        looks = StudyJournal(store).looks() if store else []
        records, left_out = _tested("records", list(study_or_records))
        cells = recorded_cells(records, plan or Plan(), seen=[look.seen for look in looks])
        return _comparison("records", plan or Plan(), cells, records, left_out)
    study = study_or_records
    home = store or Store.default()
    journal, declared = StudyJournal(home, study.slug), Plan.of(study)
    there = [record for spec in study.runs() if (record := home.record(spec.id)) is not None]
    tested, left_out = _tested(study.name, there)
    found = {record.id: record for record in tested}
    cells = recorded_cells([*found.values()], declared, study.cells(), [look.seen for look in journal.looks()])
    compared = _comparison(study.name, declared, cells, tested, left_out)
    missing = sum(spec.id not in found for spec in needed(study, compared.decided))
    return replace(compared, missing=missing, changes=tuple(journal.changes(study)))


def needed(study: Study, decided: Container[Place], seeds: int | None = None) -> list[RunSpec]:
    """The runs that verdicts need, in order: of the arms that are not decided, and of what they are compared with.

    Args:
        seeds: how many an arm; None for those of the last look.
    """
    last = study.looks[-1] if isinstance(study.looks, list) else len(study.seed_list)
    wanted: set[str] = set()
    for cell, arms in study.cells().items():
        baseline = baseline_of(_planned_labels(arms), study.baseline)
        left = [arm for arm in arms if arm != baseline and (cell, arm) not in decided]
        kept = [arm for arm in arms if arm in left or (arm == baseline and (left or len(arms) == 1))]
        wanted |= {spec.id for arm in kept for spec in arms[arm][: seeds or last]}
    return [spec for spec in study.runs() if spec.id in wanted]


def designs(study: Study) -> list[Design]:
    """The different designs of a study's cells, before anything is trained; cells without a comparison left out."""
    cells = [arms for arms in study.cells().values() if baseline_of(_planned_labels(arms), study.baseline) is not None]
    families = {len(arms) - 1 for arms in cells}
    return [Design(len(study.seed_list), family, study.margin, study.pairing) for family in sorted(families - {0})]


def _planned_labels(arms: Mapping[ArmKey, Sequence[RunSpec]]) -> dict[ArmKey, str]:
    """The labels of the arms of a planned cell."""
    return labels({arm: specs[0].resolved.attention.placed.site for arm, specs in arms.items()})


def _comparison(
    name: str, plan: Plan, cells: Sequence[Cell], records: Sequence[RunRecord], warnings: list[str]
) -> Comparison:
    lost = {_place(record) for record in records} - {_place(record) for record in records if record.done}
    warnings = warnings + [
        f"run {record.id}, {label_of(record)} seed {record.spec['seed']} failed: {record.error}"
        + "; no run of this arm is done, and it is not compared" * (_place(record) in lost)
        for record in records
        if not record.done
    ]
    for cell in cells:
        warnings += [*cell_warnings(cell), *record_warnings(cell)]
    return Comparison(name, plan, tuple(cells), warnings=tuple(warnings), lost=frozenset(lost))


def _tested(name: str, records: list[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """The records of runs that are scored on test images, and a warning where others are left out.

    Raises:
        StoreProblem: none is.
    """
    tested = [record for record in records if record.scored == "test"]
    if records and not tested:
        raise StoreProblem(f"{name}: its runs are scored on validation images only: no test accuracy to compare")
    untested = len(records) - len(tested)
    return tested, [f"{untested} runs are scored on validation images only and are left out"] if untested else []


def _place(record: RunRecord) -> Place:
    return cell_key(shared(record.canonical)), ArmKey.of(record.canonical)
