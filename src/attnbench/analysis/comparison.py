"""Records to a comparison: arms grouped into cells, and each arm's verdict against the baseline."""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from attnbench.analysis.across import Across, across
from attnbench.analysis.cells import Arm, Cell, baseline_of, cell_warnings
from attnbench.analysis.plan import Design, Plan
from attnbench.analysis.recorded import absent, label_of, planned_key, record_warnings, recorded_cells, times_told
from attnbench.errors import StoreProblem
from attnbench.spec.arm import ArmKey, K, labels
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
    told: int = 1
    """How often all cells together were told, this time included."""
    absent: frozenset[ArmKey] = frozenset()
    """Arms of which a planned cell has no run yet."""
    changes: tuple[str, ...] = ()
    """What of the plan was changed after the first run, a few words each."""

    @property
    def baseline(self) -> str:
        """The arm that every other is compared with."""
        return self.plan.baseline

    @property
    def decided(self) -> dict[Place, str]:
        """The arms of recorded cells whose verdict no further run changes, each with its kind."""
        return {
            place: arm.contrast.verdict.kind
            for place, arm in self.places.items()
            if arm.contrast and arm.contrast.verdict.kind != "undecided"
        }

    @property
    def places(self) -> dict[Place, Arm]:
        """The arms of recorded cells, by their places in a study."""
        return {
            (planned_key(record, self.plan), arm.key): arm
            for cell in self.cells
            for record in [record for arm in cell.arms for record in arm.records][:1]
            for arm in cell.arms
            if isinstance(arm.key, ArmKey)
        }

    @property
    def recorded(self) -> bool:
        """Whether more than scores is known of its runs: their records."""
        return all(cell.recorded for cell in self.cells)

    @cached_property
    def across(self) -> list[Across]:
        """What its cells say together, measure by measure; empty for a single cell."""
        return across(self.cells, self.told, self.absent)


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
        plan, kept = plan or Plan(), StudyJournal(store) if store else None
        records = list(study_or_records)
        seen = [look.seen for look in kept.looks()] if kept else []
        cells = recorded_cells(_tested("records", records), plan, seen=seen)
        told = times_told(cells, kept.wholes() if kept else [])
        return warned(Comparison("records", plan, tuple(cells), told=told), records)
    study = study_or_records
    home = store or Store.default()
    journal, declared = StudyJournal(home, study.slug), Plan.of(study)
    found = {spec.id: record for spec in study.runs() if (record := home.record(spec.id)) is not None}
    records = _tested(study.name, found.values())
    planned = {
        cell: {arm: [spec.seed for spec in specs] for arm, specs in own.items()} for cell, own in study.cells().items()
    }
    cells = recorded_cells(records, declared, planned, [look.seen for look in journal.looks()])
    told, lacking = times_told(cells, journal.wholes()), absent(records, declared, planned)
    compared = warned(Comparison(study.name, declared, tuple(cells), told=told, absent=lacking), [*found.values()])
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
        settled = [arm for arm in arms if (cell, arm) in decided]
        wanted |= {spec.id for arm in open_arms(arms, baseline, settled) for spec in arms[arm][: seeds or last]}
    return [spec for spec in study.runs() if spec.id in wanted]


def open_arms(arms: Collection[K], baseline: K | None, decided: Container[K]) -> list[K]:
    """The arms of a cell whose runs verdicts need: those that are not decided, and what they are compared with."""
    left = [arm for arm in arms if arm != baseline and arm not in decided]
    return [arm for arm in arms if arm in left or (arm == baseline and (left or len(arms) == 1))]


def designs(study: Study) -> list[Design]:
    """The different designs of a study's cells, before anything is trained; cells without a comparison left out."""
    cells = [arms for arms in study.cells().values() if baseline_of(_planned_labels(arms), study.baseline) is not None]
    families = {len(arms) - 1 for arms in cells}
    plan, seeds = Plan.of(study), len(study.seed_list)
    return [Design(seeds, family, plan.margin, plan.pairing, plan.looks) for family in sorted(families - {0})]


def _planned_labels(arms: Mapping[ArmKey, Sequence[RunSpec]]) -> dict[ArmKey, str]:
    """The labels of the arms of a planned cell."""
    return labels({arm: specs[0].resolved.attention.placed.site for arm, specs in arms.items()})


def _tested(name: str, records: Iterable[RunRecord]) -> list[RunRecord]:
    """The records that can be compared: those scored on test images."""
    given = list(records)
    found = [record for record in given if record.scored == "test"]
    if given and not found:
        raise StoreProblem(f"{name}: its runs are scored on validation images only: no test accuracy to compare")
    return found


def warned(compared: Comparison, every: Sequence[RunRecord]) -> Comparison:
    """The same comparison with what a reader must know of its runs: of those that failed or are left out too."""
    records = [record for record in every if record.scored == "test"]
    warnings = [
        f"run {record.id}, {label_of(record)} seed {record.spec['seed']} failed: {record.error}"
        + "; no run of this arm is done, and it is not compared"
        * (_place(record, compared.plan) not in compared.places)
        for record in records
        if not record.done
    ]
    if untested := len(every) - len(records):
        warnings.append(f"{untested} runs are scored on validation images only and are left out")
    for cell in compared.cells:
        warnings += [*cell_warnings(cell), *record_warnings(cell)]
    return replace(compared, warnings=tuple(warnings))


def _place(record: RunRecord, plan: Plan) -> Place:
    return planned_key(record, plan), ArmKey.of(record.canonical)
