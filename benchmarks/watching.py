"""What code does besides reading: files changed outside of a folder, objects unpickled, programs begun.

Python tells its audit hooks of all of these, whoever does them; a hook stays for the life of a process.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.startfile",
    "subprocess.Popen",
    "pty.spawn",
)
CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "os.chown",
    "os.truncate",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_seen: list[str] | None = None
_inside: tuple[str, ...] = ()
_installed = False


@contextlib.contextmanager
def watched(*folders: Path) -> Iterator[list[str]]:
    """Note what the block does that a reader has no business to do; files below `folders` may be changed.

    Yields:
        what was seen, a line each: `write PATH`, `change PATH`, `program NAME`, `unpickle NAME`, `connect ADDRESS`.
    """
    global _seen, _inside, _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    before, _seen, _inside = (_seen, _inside), [], tuple(str(folder.resolve()) for folder in folders)
    try:
        yield _seen
    finally:
        _seen, _inside = before


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        _note("write", arguments[0])
    elif event in CHANGES:
        for path in arguments[: 2 if event == "os.rename" else 1]:
            _note("change", path)
    elif event in PROGRAMS:
        _seen.append(f"program {event} {arguments[0] if arguments else ''}")
    elif event == "pickle.find_class":
        _seen.append(f"unpickle {arguments[0]}.{arguments[1]}")
    elif event == "socket.connect":
        _seen.append(f"connect {arguments[1]}")


def _note(what: str, path: Any) -> None:
    """Note a path, unless it lies in a folder that may be changed; open files have no path."""
    assert _seen is not None
    if isinstance(path, str | bytes | os.PathLike):
        whole = os.path.realpath(os.fsdecode(path))
        if whole not in (os.devnull,) and not any(f"{whole}/".startswith(f"{folder}/") for folder in _inside):
            _seen.append(f"{what} {whole}")
