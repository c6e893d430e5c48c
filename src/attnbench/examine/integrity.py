"""Every file of a store against the hash that was recorded of it; nothing is trained, nothing in it is run."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from attnbench.errors import StoreProblem
from attnbench.examine.recount import recounted
from attnbench.examine.remarks import Remark, note, settled
from attnbench.files import digest_of, whole_lines
from attnbench.report.text import counted
from attnbench.spec.run import name_of
from attnbench.store.predictions import read
from attnbench.store.record import RunRecord
from attnbench.store.runs import Store, loaded


def check(store: Store) -> list[Remark]:
    """What holds of the files of a store, and each that is not as it was written.

    A run from before journals kept hashes is examined by its name, its weights and what its predictions give again.
    """
    wrong, absent, unhashed = list[str](), 0, 0
    folders = [store.folder(run) for run in store.names()]
    records = [folder for folder in folders if (folder / "record.json").is_file()]
    for folder in records:
        try:
            record = store.record(folder.name)
        except StoreProblem as problem:
            wrong.append(str(problem))
            continue
        if record is None or not record.done:
            continue
        try:
            stated = _stated(store, folder.name)
        except OSError as problem:
            wrong.append(f"{folder}/journal.jsonl cannot be read ({problem.strerror or problem})")
            continue
        unhashed += not stated
        absent += sum(not (folder / name).is_file() for name in stated)
        wrong += [f"{folder}/{what}" for what in _differing(folder, record, stated)]
    states = [state for folder in folders for state in store.checkpoints(folder.name)]
    wrong += [why for state in states if (why := _unreadable(state))]
    notes = {
        f"{counted(unhashed, 'run')} whose journal keeps no hashes: only name, weights and predictions tell": unhashed,
        f"{counted(absent, 'file')} (weights, predictions) of runs that are done: not there any more": absent,
        "lines of journals that a crash cut off are left out": _cut(store),
    }
    whole = f"{counted(len(records), 'record')}, their files and {counted(len(states), 'checkpoint')} are as written"
    return [*settled(whole, wrong), *(note(text) for text, number in notes.items() if number)]


def _stated(store: Store, run: str) -> Mapping[str, str]:
    """File -> SHA-256, by the journal of a done run; empty where it says none."""
    ends = [line for line in store.journal(run) if line["event"] == "done"]
    found = ends[-1].get("sha256") if ends else None
    return found if isinstance(found, dict) and all(isinstance(each, str) for each in found.values()) else {}


def _differing(folder: Path, record: RunRecord, stated: Mapping[str, str]) -> Iterator[str]:
    """Files of a done run that are not as they were written, and why."""
    if not name_of(record.canonical) == record.id == folder.name:
        yield f"record.json: the hash of its canonical spec is {name_of(record.canonical)}"
    for name, hashed in stated.items():
        try:
            if (folder / name).is_file() and digest_of(folder / name) != hashed:
                yield f"{name} was changed after it was written"
        except OSError as problem:
            yield f"{name} cannot be read ({problem.strerror or problem})"
    if not stated:
        yield from _recomputed(folder, record)


def _recomputed(folder: Path, record: RunRecord) -> Iterator[str]:
    """The same where no hashes were kept, by what the record says of the other files."""
    weights, predictions = folder / "weights.safetensors", folder / "predictions.npz"
    hashed = _weights(weights) if weights.is_file() else record.weights_sha256
    if hashed != record.weights_sha256:
        yield f"{weights.name} {'holds other weights than the record says' if hashed else 'cannot be read'}"
    if predictions.is_file():
        try:
            yield from (f"record.json: {what}" for what in recounted(record, read(predictions)))
        except ValueError as problem:
            yield f"{predictions.name} {problem}"


def _weights(file: Path) -> str:
    """The hash of a file's weights, as records have it; empty for one that cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from attnbench.networks.weights import weights_digest

    try:
        return weights_digest(load_file(file))
    except (SafetensorError, OSError):
        return ""


def _unreadable(checkpoint: Path) -> str:
    """Why a checkpoint cannot be gone on from; empty if it can."""
    try:
        loaded(checkpoint)
    except StoreProblem as problem:
        return f"{problem}; the one before it serves"
    except OSError as problem:
        return f"{checkpoint} cannot be read ({problem.strerror or problem})"
    return ""


def _cut(store: Store) -> int:
    """How many lines of journals are no JSON."""
    files = [*store.path.glob("*/journal.jsonl"), *(store.path / "studies").glob("*.jsonl")]
    found = 0
    for file in files:
        with contextlib.suppress(OSError):  # nothing can be said of its lines
            found += len(file.read_text(errors="replace").splitlines()) - len(whole_lines(file))
    return found
