"""Records to a comparison: arms grouped into cells, and each arm's verdict against the baseline."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnbench.analysis.cells import Cell, baseline_of, cell_of, cell_warnings, label_of
from attnbench.analysis.stats import Estimate, superiority
from attnbench.analysis.verdicts import Design, Plan
from attnbench.errors import StoreProblem
from attnbench.spec.arm import FIELDS, ArmKey, labels
from attnbench.spec.run import LATER, canonical
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


@dataclass(frozen=True)
class Overall:
    """A mechanism against the baseline over several cells."""

    arm: str
    superiority: Estimate
    """P(a run of the arm beats a run of the baseline), stratified by cell."""
    rank: float
    """Mean rank of its mean accuracy among the arms that all these cells have; 1 is the highest."""


def across(comparison: Comparison) -> list[Overall]:
    """Every mechanism that is compared in each of at least two cells; descriptive, beside the cells' own verdicts."""
    from scipy.stats import rankdata

    cells = [cell for cell in comparison.cells if cell.baseline is not None]
    if len(cells) < 2:
        return []
    tables = [{arm.key: arm for arm in cell.arms} for cell in cells]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    ranks = [rankdata([-table[key].accuracy.mean for key in shared]) for table in tables]
    return [
        Overall(
            tables[0][key].name,
            superiority(
                [
                    (table[key].accuracies, cell.baseline.accuracies)
                    for cell, table in zip(cells, tables, strict=True)
                    if cell.baseline is not None
                ]
            ),
            float(np.mean([rank[place] for rank in ranks])),
        )
        for place, key in enumerate(shared)
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
        arms[repr(_shared(form))][ArmKey.of(form)] = spec.resolved.attention.placed.site
    families = {len(found) - 1 for found in arms.values() if baseline_of(labels(found), study.baseline) is not None}
    return [Design(len(study.seed_list), family, study.margin, study.pairing) for family in sorted(families - {0})]


def _comparison(name: str, plan: Plan, records: list[RunRecord], missing: int) -> Comparison:
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    untested = sum(record.scored == "val" for record in records)
    if untested and untested == len(records):
        raise StoreProblem(f"{name}: its runs are scored on validation images only: no test accuracy to compare")
    records = [record for record in records if record.scored == "test"]
    for record in records:
        if record.done:
            groups[repr(_cell_form(record))].append(record)
    titles = _titles([_cell_form(members[0]) for members in groups.values()])
    cells = [cell_of(title, members, plan) for title, members in zip(titles, groups.values(), strict=True)]
    warnings = [
        f"run {record.id}, {label_of(record)} seed {record.spec['seed']} failed: {record.error}; "
        "means are over the runs that did not"
        for record in records
        if not record.done
    ]
    if untested:
        warnings.append(f"{untested} runs are scored on validation images only and are left out")
    for cell, members in zip(cells, groups.values(), strict=True):
        warnings += cell_warnings(cell, members)
    return Comparison(name, plan, tuple(cells), missing, tuple(warnings))


def _cell_form(record: RunRecord) -> dict[str, object]:
    """Everything that must be equal for two records to be pooled: recipe, versions, data and split."""
    return {**_shared(record.canonical), "data": record.data_fingerprint, "split": record.split_fingerprint}


def _shared(form: Mapping[str, Any]) -> dict[str, object]:
    """What the arms of a cell have in common, of the canonical form of one of its runs."""
    whole = {**form, **{name: form.get(name, nothing) for name, nothing in LATER.items()}}
    kept = {name: value for name, value in whole.items() if name not in (*FIELDS, "seed", "versions")}
    return kept | {f"{name} version": v for name, v in form["versions"].items() if name != "attention"}


def _titles(forms: list[dict[str, object]]) -> list[str]:
    """Data set and backbone, and what else tells cells apart; versions and fingerprints only where they must."""
    varied = [name for name in (forms[0] if forms else ()) if len({repr(form[name]) for form in forms}) > 1]
    late = [name for name in varied if name in ("data", "split") or name.endswith(" version")]
    early = [name for name in varied if name not in ("dataset", "backbone", *late)]

    def title(form: dict[str, object], names: list[str]) -> str:
        return ", ".join([f"{form['dataset']}, {form['backbone']}", *(f"{name} {form[name]}" for name in names)])

    short = [title(form, early) for form in forms]
    return [
        text if short.count(text) == 1 else title(form, early + late) for text, form in zip(short, forms, strict=True)
    ]
