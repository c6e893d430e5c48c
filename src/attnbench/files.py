"""Files that appear whole or not at all, and files of lines of which each does."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def expanded(path: str | Path) -> Path:
    """A path in which `~` is a home folder; the `~` of a user who is not there stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path.expanduser raises then


def user_cache() -> Path:
    """The user's cache folder of ours, which may not be there yet; a temporary one for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnbench"
    except RuntimeError:  # neither HOME nor a known user id
        return Path(tempfile.gettempdir()) / f"attnbench-{getattr(os, 'getuid', int)()}"


def strict_json(text: str | bytes) -> Any:
    """What somebody else's JSON says.

    Raises:
        ValueError: it is none, has numbers that are none, or text that cannot be written anywhere.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    return encodable(json.loads(text, parse_constant=refuse))


def encodable(values: Any) -> Any:
    """The same values of JSON.

    Raises:
        ValueError: a text among them holds half a character, as JSON can, which no file can.
    """
    json.dumps(values, ensure_ascii=False).encode()
    return values


@contextlib.contextmanager
def replacing(file: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Write FILE.partial inside the block; it takes the file's place when it is complete and on disk."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open(mode) as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def digest_of(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def add_line(file: Path, values: object) -> None:
    """Add values as one line of JSON; it is on disk when this returns. What a crash left of a line is closed first."""
    with file.open("a+b") as journal:
        if journal.seek(0, os.SEEK_END):
            journal.seek(-1, os.SEEK_END)
            if journal.read(1) != b"\n":
                journal.write(b"\n")
        journal.write(json.dumps(values).encode() + b"\n")
        journal.flush()
        os.fsync(journal.fileno())


def whole_lines(file: Path) -> list[Any]:
    """The values of each line of JSON; a line that a crash cut off is left out, a file that is not there is empty."""
    try:
        text = file.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    lines = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            lines.append(json.loads(line))
    return lines
