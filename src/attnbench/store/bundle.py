"""A bundle: the evidence of a study as one file that anybody can check: no code, no journals, weights where asked for.

A member is stored as it is, in the order of names and without its time, so that equal contents give equal bytes.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from attnbench import __version__
from attnbench.console import printable
from attnbench.errors import BadBundle, StoreProblem
from attnbench.files import replacing, strict_json
from attnbench.spec.study import slug
from attnbench.spec.validation import violations
from attnbench.store.archives import archive
from attnbench.store.runs import RunRecord, Store
from attnbench.store.studies import PlanParts, StudyJournal

MANIFEST, STUDY = "manifest.json", "study.yaml"
NAMES = re.compile(
    r"study\.yaml|studies/\w[\w.-]{0,249}\.jsonl|[0-9a-f]{12}/(record\.json|predictions\.npz|weights\.safetensors)"
)
"""What members are called, besides the manifest. A bundle that is unpacked is a store, with its study beside it."""
MOST_MEMBERS, MOST_TEXT = 60_000, 64 << 20
"""Members, and bytes of one that is a text."""
_DAMAGED = (zipfile.BadZipFile, NotImplementedError, EOFError)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle says of itself."""

    format: Literal[1]
    name: str
    """Of the study, or of the folder of runs."""
    attnbench: str
    """The version that made it."""
    time: float | None
    """Seconds since 1970 of the last thing that is known to have happened: a run ended, verdicts were seen."""
    plan: dict[str, Any] | None
    """What the study's file declares, as its journal keeps it; None for a folder of runs."""
    declared: bool
    """Whether this very plan was written before the first run began."""
    data: list[list[str]]
    """Data set, fingerprint of its images and fingerprint of their split; of all runs that are done."""
    numerics: list[dict[str, Any]]
    """What could change bits in these runs."""
    runs: dict[str, list[float | None]]
    """Run -> when it began and when it ended, by its journal; None where that is not known."""
    verdicts: list[list[str]]
    """The heads of the table of verdicts, and its rows."""
    files: dict[str, str]
    """Member -> SHA-256."""

    def to_bytes(self) -> bytes:
        """The manifest as it lies in the bundle; the hash of these bytes names all that the bundle holds."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1).encode()


@dataclass(frozen=True)
class Bundle:
    """A bundle that was unpacked."""

    manifest: Manifest
    digest: str
    """Twelve hex digits of the hash of all that it holds."""
    folder: Path
    """Where its members are: a store."""
    wrong: tuple[str, ...]
    """What of its members is not as its manifest says."""


def known_of(records: Iterable[RunRecord]) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Data and numerics of runs, each once, as a manifest says them."""
    done = [record for record in records if record.done]
    data = {(str(r.canonical["dataset"]), r.data_fingerprint, r.split_fingerprint) for r in done}
    numerics = {json.dumps(record.numerics, sort_keys=True): record.numerics for record in done}
    return [list(each) for each in sorted(data)], [numerics[text] for text in sorted(numerics)]


def write(
    journal: StudyJournal,
    records: Sequence[RunRecord],
    about: Mapping[str, Any],
    study: bytes | None = None,
    out: Path | None = None,
    weights: bool = False,
) -> Path:
    """Write the bundle of some runs; returns its file.

    Args:
        journal: of the study, in the store of the runs.
        records: the runs, done and failed.
        about: `name`, `plan`, `declared` and `verdicts` of its manifest.
        study: the study's file, where there is one.
        out: the file; None for one that is named by the study and by what the bundle holds.
        weights: also of each run that is done, where they were kept.

    Raises:
        StoreProblem: it cannot be written, or holds more than a bundle may.
    """
    try:
        files = _files(journal, records, study, weights)
        if len(files) >= MOST_MEMBERS:
            raise StoreProblem(f"the bundle would have {len(files):,} files; at most {MOST_MEMBERS:,} are read")
        stated = _described(journal, records, files, about).to_bytes()
        file = out or Path(f"{slug(about['name'])}-{digest_of(stated)}.zip")
        with replacing(file, "wb") as target:
            _pack(target, {MANIFEST: stated, **files})
    except zipfile.LargeZipFile:
        raise StoreProblem("the bundle would have more than 4 GB; leave out weights, or some runs") from None
    except OSError as problem:
        raise StoreProblem(f"the bundle cannot be written: {problem}") from None
    return file


def digest_of(manifest: bytes) -> str:
    """Twelve hex digits of the hash of all that a bundle holds, for its manifest has the hashes of its members."""
    return hashlib.sha256(manifest).hexdigest()[:12]


def unpacked(file: Path, folder: Path) -> Bundle:
    """Unpack a bundle that anybody may have made; only members that it may have, below `folder`.

    Raises:
        BadBundle: it is none, or not one that is safely unpacked.
    """
    try:
        size = file.stat().st_size  # nothing in it is compressed
        with file.open("rb") as source, archive(source, MOST_MEMBERS, size) as found:
            for member in found.infolist():
                _check(member)
            stated = _manifest(found)
            manifest = _read(stated)
            wrong = [*_taken(found, manifest, folder)]
    except OSError as problem:
        raise BadBundle([f"{file}: {problem.strerror or problem}"]) from None
    except ValueError as problem:
        raise BadBundle(f"{file}: {printable(reason)}" for reason in str(problem).splitlines()) from None
    named = re.search(r"-([0-9a-f]{12})\.zip$", file.name)
    if named and named[1] != digest_of(stated):
        wrong.append(f"the file's name says that its content is {named[1]}; it is {digest_of(stated)}")
    return Bundle(manifest, digest_of(stated), folder, tuple(wrong))


@contextlib.contextmanager
def opened(place: Path) -> Iterator[Path]:
    """A store as a folder: itself, or a bundle of runs, unpacked for as long as it is used.

    Raises:
        BadBundle: it is none that is safely unpacked, or not what its manifest says.
    """
    if not place.is_file():
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="attnbench-bundle-") as folder:
        bundle = unpacked(place, Path(folder))
        if bundle.wrong:
            raise BadBundle(f"{place}: {printable(problem)}" for problem in bundle.wrong)
        yield bundle.folder


def _files(
    journal: StudyJournal, records: Sequence[RunRecord], study: bytes | None, weights: bool
) -> dict[str, Path | bytes]:
    """The members of a bundle, as bytes or as files, but for the manifest."""
    files: dict[str, Path | bytes] = {} if study is None else {STUDY: study}
    if lines := journal.lines():
        files[f"studies/{journal.name}.jsonl"] = "".join(json.dumps(line) + "\n" for line in lines).encode()
    for record in records:
        files[f"{record.id}/record.json"] = journal.store.folder(record.id) / "record.json"
        if record.done and record.predictions is not None:
            files[f"{record.id}/predictions.npz"] = record.predictions.file
        kept = journal.store.folder(record.id) / "weights.safetensors"
        if weights and record.done and kept.is_file():
            files[f"{record.id}/{kept.name}"] = kept
    return files


def _described(
    journal: StudyJournal, records: Sequence[RunRecord], files: Mapping[str, Path | bytes], about: Mapping[str, Any]
) -> Manifest:
    """What a bundle of these files says of itself."""
    runs = {record.id: list(_times(journal.store, record.id)) for record in records}
    happened = [time for times in runs.values() for time in times if time is not None]
    data, numerics = known_of(records)
    return Manifest(
        format=1,
        attnbench=__version__,
        time=max([*happened, *(line["time"] for line in journal.lines())], default=None),
        data=data,
        numerics=numerics,
        runs=runs,
        files={name: hashlib.sha256(_bytes(files[name])).hexdigest() for name in sorted(files)},
        **about,
    )


def _times(store: Store, run: str) -> tuple[float | None, float | None]:
    """When a run began and ended."""
    lines = [line for line in store.journal(run) if "time" in line]
    ends = [line["time"] for line in lines if line["event"] in ("done", "failed")]
    return min((line["time"] for line in lines), default=None), max(ends, default=None)


def _bytes(content: Path | bytes) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def _pack(target: IO[bytes], files: Mapping[str, Path | bytes]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=False) as made:
        for name in sorted(files):
            member = zipfile.ZipInfo(name)  # its time is the first that a zip file knows
            member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            made.writestr(member, _bytes(files[name]))


def _check(member: zipfile.ZipInfo) -> None:
    """Refuse a member that `_pack` never writes.

    Raises:
        ValueError: a path that leads out of the folder, a link, or a compressed member.
    """
    name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
    if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
        raise ValueError(f"member {name!r} would lie outside of the bundle")
    if kind not in (0, stat.S_IFREG) or member.is_dir():
        raise ValueError(f"member {name!r} is no file")
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        raise ValueError(f"member {name!r} is compressed, as no member of a bundle is; give the file as it was written")
    if not name.endswith((".npz", ".safetensors")) and member.file_size > MOST_TEXT:
        raise ValueError(f"member {name!r} has {member.file_size:,} bytes; at most {MOST_TEXT:,} are read")


def _manifest(found: zipfile.ZipFile) -> bytes:
    try:
        return found.read(MANIFEST)
    except KeyError:
        raise ValueError(f"has no {MANIFEST}: it is no bundle of attnbench submit") from None
    except _DAMAGED as problem:
        raise ValueError(f"{MANIFEST} is damaged ({problem})") from None


def _read(stated: bytes) -> Manifest:
    """The manifest, of which everything is looked at.

    Raises:
        ValueError: it is none; a line for each reason.
    """
    try:
        values = strict_json(stated)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"{MANIFEST} cannot be read ({problem})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{MANIFEST} holds no mapping")
    wrong = [(".".join(map(str, place)), what) for place, what in violations(Manifest, values)]
    if not wrong and values["plan"] is not None:
        wrong = [(f"plan.{'.'.join(map(str, place))}", what) for place, what in violations(PlanParts, values["plan"])]
    if not wrong:
        wrong = [
            ("files", f"{name!r} is no member of a bundle") for name in values["files"] if not NAMES.fullmatch(name)
        ]
        wrong += [("runs", f"{run!r} has no two times") for run, times in values["runs"].items() if len(times) != 2]
    if wrong:
        raise ValueError("\n".join(f"{MANIFEST}: {place}: {what}" for place, what in wrong))
    return Manifest(**values)


def _taken(found: zipfile.ZipFile, manifest: Manifest, folder: Path) -> Iterable[str]:
    """Unpack the members that the manifest names; yields what is not as it says."""
    there = {member.filename for member in found.infolist()} - {MANIFEST}
    for name in sorted(there - set(manifest.files)):
        yield f"{name} is not among the files of the manifest"
    for name, stated in sorted(manifest.files.items()):
        if name not in there:
            yield f"{name} is missing"
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with found.open(name) as source, target.open("w+b") as out:
                shutil.copyfileobj(source, out)
                out.seek(0)
                hashed = hashlib.file_digest(out, "sha256").hexdigest()
        except _DAMAGED as problem:
            yield f"{name} is damaged ({problem})"
            continue
        if hashed != stated:
            yield f"{name} has another SHA-256 than the manifest says"
