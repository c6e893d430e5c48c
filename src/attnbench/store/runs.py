"""A folder per run is the only truth: journal, checkpoints while it runs, and a record that is written last."""

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attnbench.console import printable, say
from attnbench.errors import StoreProblem, writing
from attnbench.files import add_line, digest_of, expanded, replacing, whole_lines
from attnbench.spec.run import Runtime
from attnbench.store.record import NAME, RunRecord, shape_mistake

__all__ = ["RunRecord", "Store"]

KEPT_CHECKPOINTS = 2
HASHED = ("weights.safetensors", "predictions.npz")
"""Files of a done run, besides its record, whose hashes its journal keeps."""
SEAL = b"attnbench-sha256:"
"""What stands behind a checkpoint, before the hash of all that stands before it."""
MARKS = {"epoch": int, "step": int, "resumed": int, "numerics": dict, "curves": list}
"""What the state in a checkpoint has besides weights, with types."""


class Store:
    """A folder of runs, `STORE/<id>/` each."""

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)

    @classmethod
    def default(cls) -> "Store":
        """The store that is used where none is named."""
        return cls(Runtime().store)

    def folder(self, run: str) -> Path:
        """Where a run's files are."""
        return self.path / run

    def record(self, run: str) -> RunRecord | None:
        """A run's record, done or failed; None while there is none.

        Raises:
            StoreProblem: a record that cannot be read.
        """
        file = self.folder(run) / "record.json"
        try:
            found = RunRecord.from_json(file.read_text(encoding="utf-8"), str(file.parent))
            wrong = shape_mistake(found)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as problem:
            wrong = str(problem)
        if wrong:
            raise StoreProblem(f"{file} cannot be read ({printable(wrong)}); delete it to train the run again")
        return found

    def done(self, run: str) -> bool:
        """Whether a run was trained to the end."""
        found = self.record(run)
        return found is not None and found.done

    def failed(self, run: str) -> bool:
        """Whether a run failed by itself, which is a result."""
        found = self.record(run)
        return found is not None and not found.done

    def records(self) -> list[RunRecord]:
        """All records, done and failed, by id."""
        return list(self.each())

    def each(self) -> Iterator[RunRecord]:
        """The same one after the other: of ten thousand, none is kept that nobody keeps.

        A folder that was copied under another name holds no run of its own, which is said.
        """
        for name in self.names():
            record = self.record(name)
            if record is not None and record.id != name:
                say(f"{self.folder(name)}/ is left out: its record is that of run {record.id}")
            elif record is not None:
                yield record

    def names(self) -> list[str]:
        """What in the store is called as a run may be, in order; not what is half copied."""
        try:
            return sorted(entry.name for entry in os.scandir(self.path) if NAME.fullmatch(entry.name))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def holding(self, run: str | Path) -> "Store":
        """The store that a run's folder lies in; this one for an id."""
        return Store(Path(run).resolve().parent) if (Path(run) / "record.json").is_file() else self

    def find(self, run: str | Path) -> RunRecord:
        """The record of a done run, by its id, the beginning of its id, or its folder in this store.

        Raises:
            StoreProblem: none, or several, or one that failed.
        """
        path = Path(run)
        name = (path.resolve() if (path / "record.json").is_file() else path).name
        matches = [match for match in self.names() if name and match.startswith(name)]
        matches = [match for match in matches if (self.folder(match) / "record.json").is_file()]
        matches = [match for match in matches if match == name] or matches
        if len(matches) != 1:
            what = f"runs {', '.join(matches[:4])} begin" if matches else "no run begins"
            raise StoreProblem(f"{what} with {name!r} in {self.path}/; give an id or a run's folder")
        record = self.record(matches[0])
        assert record is not None
        if not record.done:
            raise StoreProblem(f"run {record.id} failed: {record.error}")
        return record

    @contextlib.contextmanager
    def lock(self, run: str) -> Iterator[None]:
        """Hold a run, so that two processes never train it at once; the system frees it when a process dies."""
        from filelock import FileLock, Timeout

        locks = self.path / ".locks"
        with writing(f"the store {self.path}/"):
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"{run}.lock")
            try:
                held = lock.acquire(timeout=0)
            except Timeout:
                say(f"run {run} is being trained by another process; waiting for it")
                held = lock.acquire()
        with held:
            yield

    def set_aside(self, run: str) -> Path:
        """Rename the record and the journal of a run that is done again on other images; returns the record's place."""
        folder, number = self.folder(run), len(self._set_aside(run)) + 1
        with contextlib.suppress(FileNotFoundError):
            (folder / "journal.jsonl").replace(folder / f"journal-{number}.jsonl")
        return (folder / "record.json").replace(folder / f"record-{number}.json")

    def edition(self, run: str) -> str:
        """A run's id, with a number behind it from the second time on that it is done on other images."""
        earlier = len(self._set_aside(run))
        return f"{run}-{earlier + 1}" if earlier else run

    def _set_aside(self, run: str) -> list[Path]:
        return list(self.folder(run).glob("record-*.json"))

    def begin(self, run: str) -> None:
        """Make the run's folder; the record of an earlier failure goes, and what a crash left half written."""
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        for file in [folder / "record.json", *folder.glob("gate-*"), *folder.glob("*.partial")]:
            file.unlink(missing_ok=True)

    def save(self, record: RunRecord) -> None:
        """Write the record last and in one step, so that a crash leaves no half-finished run."""
        self.write(record.id, "record.json", record.to_json())
        if record.done:
            self.drop_checkpoints(record.id)

    def finish(self, record: RunRecord) -> None:
        """Save the record of a done run; before that, the journal says what each of its files hashes to."""
        text = record.to_json().encode()
        files = [file for name in HASHED if (file := self.folder(record.id) / name).is_file()]
        hashes = {"record.json": hashlib.sha256(text).hexdigest(), **{file.name: digest_of(file) for file in files}}
        self.log(record.id, "done", **{record.metric: record.score}, sha256=hashes)
        self.save(record)

    def drop_checkpoints(self, run: str) -> None:
        """Remove the states that an unfinished run could go on from."""
        for checkpoint in self.checkpoints(run):
            checkpoint.unlink(missing_ok=True)

    def write(self, run: str, name: str, text: str) -> None:
        """Write a file of a run in one step."""
        with replacing(self.folder(run) / name) as file:
            file.write(text)

    def log(self, run: str, event: str, **values: object) -> None:
        """Add a line to the run's journal; it is on disk when this returns."""
        values = {"event": event, "time": round(time.time(), 3), **values}
        add_line(self.folder(run) / "journal.jsonl", values)

    def read_again(self, record: RunRecord, reading: str, images: int) -> None:
        """Note in a run's journal, before it happens, that the images that it was scored on are read once more.

        Raises:
            StoreProblem: the journal cannot be written.
        """
        with writing(self.folder(record.id)):
            self.log(record.id, record.scored, reading=reading, images=images)

    def journal(self, run: str) -> list[dict[str, Any]]:
        """The whole lines of a run's journal; what a crash cut off, or is no event, is left out."""
        return [line for line in whole_lines(self.folder(run) / "journal.jsonl") if _is_event(line)]

    def epochs(self, run: str) -> int:
        """How many epochs of a run are in its journal."""
        return sum(line["event"] == "epoch" for line in self.journal(run))

    def mend_journal(self, run: str, curves: list[dict[str, float]]) -> None:
        """Make the journal's epochs those of the state that training goes on from."""
        kept = [line for line in self.journal(run) if line["event"] != "epoch" or line["epoch"] <= len(curves)]
        there = {line["epoch"] for line in kept if line["event"] == "epoch"}
        lines = kept + [{"event": "epoch", **point} for point in curves if point["epoch"] not in there]
        self.write(run, "journal.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def checkpoint(self, run: str, saved: Mapping[str, Any]) -> None:
        """Keep a state, in one step, and the one before it."""
        import torch

        name = f"checkpoint-{saved['epoch']:05d}-{saved['step']:07d}.pt"
        with replacing(self.folder(run) / name, "wb") as file:
            buffer = io.BytesIO()  # torch.save hides a full disk behind an error of its own
            torch.save(dict(saved), buffer)
            file.write(buffer.getbuffer())
            file.write(SEAL + hashlib.sha256(buffer.getbuffer()).digest())
        for old in self.checkpoints(run)[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def latest(self, run: str) -> dict[str, Any] | None:
        """The newest state that can be read; None for a run that starts from the beginning."""
        for file in reversed(self.checkpoints(run)):
            try:
                return loaded(file)
            except StoreProblem as problem:
                say(f"{problem} and is removed; training goes on from the one before it, or anew")
                file.unlink()  # or it would count as one of the last two
        return None

    def checkpoints(self, run: str) -> list[Path]:
        """The states of an unfinished run, the newest last."""
        return sorted(self.folder(run).glob("checkpoint-*.pt"))


def loaded(checkpoint: Path) -> dict[str, Any]:
    """A state as it was kept.

    Raises:
        StoreProblem: it is cut short, another than was written, or damaged in whatever other way.
        OSError, MemoryError: it could not be read just now, which says nothing of it.
    """
    import torch

    from attnbench.devices import out_of_memory

    try:
        content = io.BytesIO(_unsealed(checkpoint.read_bytes()))
        state: dict[str, Any] = torch.load(content, weights_only=True, map_location="cpu")
        if not isinstance(state, dict) or any(type(state.get(name)) is not kind for name, kind in MARKS.items()):
            raise ValueError("no state of a run")
    except Exception as problem:
        if isinstance(problem, OSError) or out_of_memory(problem):
            raise
        why = [type(problem).__name__, *str(problem).splitlines()[:1]]
        raise StoreProblem(f"{checkpoint} cannot be read ({': '.join(why)})") from None
    return state


def _unsealed(content: bytes) -> bytes:
    """A checkpoint without its hash; one of an earlier version has none, and ends as a zip file does.

    Raises:
        ValueError: it hashes to something else, or it is cut short.
    """
    size = len(SEAL) + hashlib.sha256().digest_size
    whole, seal = content[:-size], content[-size:]
    if content[-22:].startswith(b"PK\5\6"):
        return content
    if hashlib.sha256(whole).digest() != seal.removeprefix(SEAL):
        raise ValueError("another hash than when it was written")
    return whole


def _is_event(line: Any) -> bool:
    """Whether a line of a journal, which anybody may have written, says what happened and when."""
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        return False
    time_, epoch = line.get("time", 0), line.get("epoch", 1)
    timed = isinstance(time_, int | float) and abs(time_) < 1e11
    return timed and (line["event"] != "epoch" or ("epoch" in line and type(epoch) is int and 1 <= epoch < 1 << 31))
