"""Records to a comparison: arms grouped into cells, and each arm's difference to the baseline."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from attnbench.registry import ATTENTION
from attnbench.stats import Difference, Estimate, difference, estimate
from attnbench.store import RunRecord, Store
from attnbench.study import Study

_ARM_FIELDS = ("attention", "site", "stages")


@dataclass(frozen=True)
class Arm:
    """A mechanism in a cell, with the accuracy of each seed in percent."""

    name: str
    records: tuple[RunRecord, ...]
    accuracy: Estimate
    difference: Difference | None
    """To the baseline, in percentage points; None for the baseline itself, or where it was not run."""

    @property
    def accuracies(self) -> list[float]:
        """Test accuracy in percent, in the order of the seeds."""
        return [record.accuracy for record in self.records]


@dataclass(frozen=True)
class Cell:
    """Runs that differ in mechanism and seed only."""

    name: str
    arms: tuple[Arm, ...]

    def arm(self, name: str) -> Arm | None:
        """The arm of a mechanism, under any spelling."""
        wanted = ATTENTION.canonical(name)
        return next((arm for arm in self.arms if arm.name == wanted), None)


@dataclass(frozen=True)
class Comparison:
    """What a report shows."""

    name: str
    baseline: str
    cells: tuple[Cell, ...]
    missing: int = 0
    """Runs that the study asks for and that are not done."""
    warnings: tuple[str, ...] = ()


def compare(study_or_records: Study | Iterable[RunRecord], store: Store | None = None) -> Comparison:
    """Compare every arm with the baseline, cell by cell.

    Args:
        study_or_records: a study, whose runs are looked up in `store`, or records.
        store: the folder of runs; None for the default.
    """
    if not isinstance(study_or_records, Study):
        return _comparison("records", "none", [record for record in study_or_records if record.done], 0)
    study = study_or_records
    home = store or Store.default()
    planned = study.runs()
    records = [record for spec in planned if (record := home.record(spec.id)) is not None and record.done]
    return _comparison(study.name, ATTENTION.canonical(study.baseline), records, len(planned) - len(records))


def _comparison(name: str, baseline: str, records: list[RunRecord], missing: int) -> Comparison:
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[repr(_cell_form(record))].append(record)
    titles = _titles([_cell_form(members[0]) for members in groups.values()])
    cells = tuple(_cell(title, members, baseline) for title, members in zip(titles, groups.values(), strict=True))
    warnings = [
        warning for title, members in zip(titles, groups.values(), strict=True) for warning in _mixed(title, members)
    ]
    return Comparison(name, baseline, cells, missing, tuple(warnings))


def _cell(title: str, records: list[RunRecord], baseline: str) -> Cell:
    arms: dict[str, list[RunRecord]] = defaultdict(list)
    records = sorted(records, key=lambda record: record.spec["seed"])
    for name, record in zip(_arm_names(records), records, strict=True):
        arms[name].append(record)
    reference = [record.accuracy for record in arms.get(baseline, [])]
    order = sorted(arms, key=lambda name: (name != baseline, name))
    return Cell(title, tuple(_arm(name, arms[name], reference if name != baseline else []) for name in order))


def _arm(name: str, records: list[RunRecord], reference: Sequence[float]) -> Arm:
    accuracies = [record.accuracy for record in records]
    return Arm(name, tuple(records), estimate(accuracies), difference(accuracies, reference) if reference else None)


def _cell_form(record: RunRecord) -> dict[str, object]:
    """Everything that must be equal for two records to be pooled: recipe, versions, data and split."""
    kept = {name: value for name, value in record.canonical.items() if name not in (*_ARM_FIELDS, "seed", "versions")}
    versions = {f"{name} version": v for name, v in record.canonical["versions"].items() if name != "attention"}
    return {**kept, **versions, "data": record.data_fingerprint, "split": record.split_fingerprint}


def _arm_names(records: list[RunRecord]) -> list[str]:
    """Each record's mechanism, with its place where that is not its card's own, and its version where several are."""
    forms = [record.canonical for record in records]
    names = [_placed(record) for record in records]
    versions: dict[str, set[object]] = defaultdict(set)
    for name, form in zip(names, forms, strict=True):
        versions[name].add(form["versions"]["attention"])
    return [
        f"{name} version {form['versions']['attention']}" if len(versions[name]) > 1 else name
        for name, form in zip(names, forms, strict=True)
    ]


def _placed(record: RunRecord) -> str:
    form = record.canonical
    place = [f"site={form['site']}"] if form["site"] not in (None, record.cards["attention"].get("site")) else []
    place += [f"stages={','.join(map(str, form['stages']))}"] if form["stages"] else []
    return " ".join([str(form["attention"]), *place])


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


def _mixed(title: str, records: list[RunRecord]) -> list[str]:
    """Warnings about records that were made under different numerics or by different code."""
    warnings = []
    for what, of in (
        ("numerics", lambda r: r.numerics),
        ("package code", lambda r: r.environment.get("code")),
    ):
        kinds = {repr(of(record)) for record in records}
        if len(kinds) > 1:
            differ = _differing([of(record) for record in records]) if what == "numerics" else ""
            warnings.append(f"{title}: records of {len(kinds)} different {what} are pooled{differ}")
    return warnings


def _differing(numerics: list[dict[str, object]]) -> str:
    names = [name for name in numerics[0] if len({repr(one.get(name)) for one in numerics}) > 1]
    return f" ({', '.join(names)})" if names else ""
