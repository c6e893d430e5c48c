"""A finished run as bytes, from a machine that does not see the store to the one that keeps it."""

import re
from collections.abc import Mapping

from attnbench.console import printable
from attnbench.errors import StoreProblem
from attnbench.files import replacing
from attnbench.store.record import RunRecord
from attnbench.store.runs import Store
from attnbench.store.view import View

RECORD = "record.json"
NAMES = re.compile(rf"{RECORD}|journal\.jsonl|predictions\.npz|weights\.safetensors|{re.escape(View.FILE)}")
"""What is carried; checkpoints stay where they were written."""


def packed(store: Store, run: str) -> dict[str, bytes]:
    """The files of a run that was done or failed, by their names; nothing of one without a record."""
    if store.record(run) is None:
        return {}
    return {file.name: file.read_bytes() for file in store.folder(run).iterdir() if NAMES.fullmatch(file.name)}


def received(store: Store, run: str, files: Mapping[str, bytes]) -> None:
    """Write the files of a run as it would have written them itself, the record last.

    A record of the same images that came here meanwhile stays; one of other images is set aside.

    Raises:
        StoreProblem: a file or a record that is not this run's.
    """
    if not files:
        return
    if wrong := [name for name in files if not NAMES.fullmatch(name)]:
        raise StoreProblem(
            f"run {run} came with a file that no run has: {printable(wrong[0])!r}; nothing is kept of it"
        )
    record = _record(run, files)
    with store.lock(run):
        there = store.record(run)
        if there and there.done:
            if there.images_seen == record.images_seen:
                return
            store.set_aside(run)
        store.begin(run)
        for name in sorted(files, key=RECORD.__eq__):
            with replacing(store.folder(run) / name, "wb") as file:
                file.write(files[name])
        if record.done:
            store.drop_checkpoints(run)


def _record(run: str, files: Mapping[str, bytes]) -> RunRecord:
    try:
        record = RunRecord.from_json(files[RECORD].decode())
    except (KeyError, ValueError, TypeError) as problem:
        raise StoreProblem(f"run {run} came without a record that can be read: {problem}") from None
    if record.id != run:
        raise StoreProblem(f"run {run} came with the record of run {printable(record.id)}; nothing is kept of it")
    return record
