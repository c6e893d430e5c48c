"""A bundle that somebody else made: is all of it what it says? Nothing in it is run, imported or unpickled."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench import __version__
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.replay import replayed
from attnbench.catalogue.foreign import barred
from attnbench.errors import AttnbenchError
from attnbench.examine.declarations import declared_of, journal_of, study_remarks
from attnbench.examine.recount import recounted
from attnbench.examine.remarks import Remark, failed, note, settled
from attnbench.files import encodable
from attnbench.report.text import counted, verdict_rows
from attnbench.spec.run import LATER, RunSpec, canonical, name_of
from attnbench.store.bundle import Bundle, known_of, unpacked
from attnbench.store.predictions import read
from attnbench.store.record import numerics_mistake, shape_mistake
from attnbench.store.runs import RunRecord

NAMED = ("dataset", "attention", "backbone")
SPELT = ("site", "stages", "every", "init", "momentum", "augment", "image_size", "normalise", "test_limit", *LATER)
"""Fields of a run that its canonical form spells in another way, or leaves out."""
HOSTILE = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
"""What numbers of strangers may raise where they are of the right types and make no sense together."""


@dataclass(frozen=True)
class Verification:
    """What was found of a bundle."""

    bundle: Bundle
    remarks: tuple[Remark, ...]
    records: tuple[RunRecord, ...]
    comparison: Comparison | None = None
    """Told again from the records; None where something failed before."""
    recounted: frozenset[str] = field(default_factory=frozenset)
    """Runs whose accuracy and loss their predictions gave again."""

    @property
    def problems(self) -> list[str]:
        """What is not as the bundle says."""
        return [remark.text for remark in self.remarks if remark.word == "FAILED"]


def verify(file: Path, folder: Path) -> Verification:
    """Examine a bundle; it is unpacked into `folder`, which is to be empty.

    Raises:
        BadBundle: it is none, or not one that is safely unpacked.
    """
    bundle = unpacked(file, folder)
    with barred():
        records, wrong = _records(bundle)
        specs, elsewhere = _specs(bundle, records)
        counts, again = _recounts(records)
        remarks = [
            *settled(f"the {len(bundle.manifest.files)} files are those of the manifest", bundle.wrong),
            *settled(f"each of {counted(len(records), 'run')} is named by the hash of its canonical spec", wrong),
            *specs,
            *counts,
            *_summary(bundle, records),
            *study_remarks(bundle, records, elsewhere),
        ]
        if any(remark.word == "FAILED" for remark in remarks):
            return Verification(bundle, tuple(remarks), tuple(records), recounted=again)
        try:
            journal = journal_of(bundle)
            seen = [look.seen for look in journal.looks()]
            comparison = replayed(bundle.manifest.name, declared_of(bundle), records, seen, journal.wholes())
            remarks += settled("verdicts told again from the records: digit for digit", _verdicts(bundle, comparison))
        except (AttnbenchError, *HOSTILE) as problem:
            remarks.append(failed(f"no verdicts can be told from these records ({problem})"))
            return Verification(bundle, tuple(remarks), tuple(records), recounted=again)
    return Verification(bundle, tuple(remarks), tuple(records), comparison, again)


def retrainable(records: Sequence[RunRecord], asked: str) -> list[str]:
    """The done runs whose id begins so; for `any` those that ask for nothing but what attnbench has."""
    done = [record for record in records if record.done and not numerics_mistake(record)]
    if asked != "any":
        return [record.id for record in done if record.id.startswith(asked)]
    with barred():
        return [record.id for record in done if _canonical(record)[0] is not None]


def _records(bundle: Bundle) -> tuple[list[RunRecord], list[str]]:
    """The records that can be used, and what is wrong with the others."""
    found, wrong = [], []
    for name in sorted(name for name in bundle.manifest.files if name.endswith("/record.json")):
        file = bundle.folder / name
        if not file.is_file():
            continue  # missing, which is said already
        try:
            record = RunRecord.from_json(file.read_text(encoding="utf-8"), str(file.parent))
            encodable(vars(record))
            problem = _mistake(record)
        except HOSTILE as raised:
            problem = f"its record cannot be read ({raised})"
        if problem:
            wrong.append(f"run {file.parent.name}: {problem}")
        else:
            found.append(record)
    return found, wrong


def _mistake(record: RunRecord) -> str:
    """What is wrong with a record by itself; empty if nothing is."""
    if wrong := shape_mistake(record):
        return wrong
    hashed = name_of(record.canonical)
    if not hashed == record.id == Path(record.folder).name:
        return f"the hash of its canonical spec is {hashed}, its record says {record.id}"
    if record.spec.get("seed") != record.canonical["seed"]:
        return f"its seed is {record.spec.get('seed')}, that of its canonical form {record.canonical['seed']}"
    return ""


def _specs(bundle: Bundle, records: Sequence[RunRecord]) -> tuple[list[Remark], bool]:
    """Whether each spec has the canonical form that is hashed, as far as it can be looked up here.

    Returns:
        remarks, and whether anything of these runs has another version here.
    """
    wrong, own, others = [], set[str](), 0
    for record in records:
        with barred() as refused:
            form, problem = _canonical(record)
        own |= set(refused)
        elsewhere = form is None and bundle.manifest.attnbench != __version__
        others += elsewhere or (form is not None and form["versions"] != record.canonical["versions"])
        if form is None and not refused and not elsewhere:
            wrong.append(f"run {record.id}: its spec is none ({problem})")
        elif differ := _differing(record, form):
            wrong.append(f"run {record.id}: its spec has another canonical form ({', '.join(differ)})")
    found = [*settled("each spec has the canonical form that is hashed", wrong)]
    if own:
        found.append(note(f"code of their own, which is not looked for here: {', '.join(sorted(own))}"))
    if others:
        found.append(note(f"{counted(others, 'run')} of which something has another version here"))
    return found, others > 0


def _canonical(record: RunRecord) -> tuple[dict[str, Any] | None, str]:
    """The canonical form that the spec of a run has here, as JSON has it; or why it has none."""
    try:
        form: dict[str, Any] = json.loads(json.dumps(canonical(RunSpec.of(record.spec))))
    except (AttnbenchError, *HOSTILE) as problem:
        return None, str(problem)
    return form, ""


def _differing(record: RunRecord, form: Mapping[str, Any] | None) -> list[str]:
    """Fields in which a canonical form is not that of the spec; without its own, those that need no look-up."""
    stated, spec = record.canonical, record.spec
    if form is not None and form["versions"] == stated["versions"]:
        return sorted(name for name in {*form, *stated} if form.get(name) != stated.get(name))
    return [
        *(name for name in spec if name not in (*NAMED, *SPELT) and spec[name] != stated.get(name)),
        *(name for name in NAMED if _name(spec.get(name)) != _name(stated[name])),
    ]


def _name(reference: object) -> str:
    """What a reference names, without its options."""
    return str(reference).split("(")[0].strip().lower()


def _recounts(records: Sequence[RunRecord]) -> tuple[list[Remark], frozenset[str]]:
    """What predictions say again of runs, and the runs of which they say the same."""
    wrong, again, labels = [], set[str](), dict[tuple[str, ...], bytes]()
    done = [record for record in records if record.done]
    told = [(record, record.predictions) for record in done if record.predictions is not None]
    for record, predictions in told:
        try:
            arrays = read(predictions.file)
            found = [*recounted(record, arrays)]
        except (ValueError, MemoryError) as problem:
            wrong.append(f"run {record.id}: predictions.npz {problem}")
            continue
        hashed = hashlib.sha256(arrays["labels"].tobytes()).digest()
        if labels.setdefault((record.data_fingerprint, record.split_fingerprint, record.scored), hashed) != hashed:
            found.append("its labels are others than those of a run on the same split")
        wrong += [f"run {record.id}: {what}" for what in found]
        again |= set() if found else {record.id}
    said = f"accuracy, loss and number of images recomputed from the predictions of {counted(len(again), 'run')}"
    remarks = [*(settled(said, wrong) if told else [])]
    if without := len(done) - len(told):
        remarks.append(note(f"{counted(without, 'run')} without predictions: what they scored is as stated"))
    if failures := len(records) - len(done):
        remarks.append(note(f"{counted(failures, 'run')} that failed"))
    return remarks, frozenset(again)


def _summary(bundle: Bundle, records: Sequence[RunRecord]) -> Iterator[Remark]:
    """Whether the manifest says of the records what they say."""
    manifest, (data, numerics) = bundle.manifest, known_of(records)
    wrong = [
        f"the manifest says other {what} than the records"
        for what, stated, found in (
            ("data", manifest.data, data),
            ("numerics", manifest.numerics, numerics),
            ("runs", sorted(manifest.runs), sorted(record.id for record in records)),
        )
        if stated != found
    ]
    yield from settled("data, numerics and runs of the manifest are those of the records", wrong)
    if manifest.attnbench != __version__:
        yield note(f"made by attnbench {manifest.attnbench}, examined by {__version__}")


def _verdicts(bundle: Bundle, comparison: Comparison) -> Iterator[str]:
    """Rows of the table that come out otherwise."""
    stated, found = bundle.manifest.verdicts, verdict_rows(comparison)
    for row in found:
        if row not in stated:
            yield f"verdicts: told again, a row is {' | '.join(row)}"
    for row in stated:
        if row not in found:
            yield f"verdicts: the manifest has a row {' | '.join(row)}"
