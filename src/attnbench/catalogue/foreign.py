"""Somebody's own code at work: what it raises keeps its place and its traceback, cut free of our frames above it."""

import contextlib
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

from attnbench.errors import AttnbenchError, BadReference, ForeignError

_OURS = str(Path(__file__).parent.parent)
_PYTHON = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_named: set[str] = set()
_asked: set[str] = set()
_barred: ContextVar[tuple[list[str], frozenset[str]] | None] = ContextVar("barred", default=None)


def named(source: Path) -> None:
    """Count a file as the user's wherever it lies: a reference names something in it."""
    _named.add(str(source))


def asked() -> frozenset[str]:
    """The code that this process was asked for: each `package.module:Object` of a command line, a study or a script."""
    return frozenset(_asked)


@contextlib.contextmanager
def barred(but: Collection[str] = ()) -> Iterator[list[str]]:
    """Read what strangers wrote: inside, nobody's code is looked for or imported; yields what was refused.

    Args:
        but: `package.module:Object` that may be imported all the same.
    """
    refused: list[str] = []
    token = _barred.set((refused, frozenset(but)))
    try:
        yield refused
    finally:
        _barred.reset(token)


def admit(path: str) -> None:
    """Let a reference to somebody's code through.

    Raises:
        BadReference: it is named inside `barred()`.
    """
    bar = _barred.get()
    if bar is None:
        _asked.add(path)
    elif path not in bar[1]:
        bar[0].append(path)
        raise BadReference(f"{path!r} is somebody's own code, which is neither looked for nor imported here")


@contextlib.contextmanager
def findable() -> Iterator[None]:
    """Look for modules in the working folder too, after everything else.

    It stays so once torch is there: torch looks for packages that may not be installed, and would take a file of that
    name for one.
    """
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        if "torch" not in sys.modules and here in sys.path:
            sys.path.remove(here)


def load(module: str) -> Any:
    """Import somebody's module, which may lie in the working folder."""
    importlib.import_module("torch")  # first: see above
    with findable():
        return importlib.import_module(module)


@contextlib.contextmanager
def running(doing: str) -> Iterator[None]:
    """Let somebody's own code run inside; `doing` says what for.

    Raises:
        ForeignError: the code raised something (or called `sys.exit`).
        BadReference: it was called wrongly, so that none of its lines ran.
    """
    try:
        yield
    except AttnbenchError:
        raise
    except (Exception, SystemExit) as problem:
        raise told(problem, doing) or BadReference(f"{doing}: {_what(problem)}") from problem


def told(problem: BaseException, doing: str = "") -> ForeignError | None:
    """An exception as it is told to whose code raised it; None if no line of theirs took part."""
    place, began = _place(problem), _theirs(problem.__traceback__)
    if not place:
        return None
    lines = traceback.format_exception(type(problem), problem, began)
    heading = "Traceback (most recent call last):\n"
    trace = "".join(line for line in lines if line != heading).replace(heading, "").rstrip()
    return ForeignError(": ".join(filter(None, [doing, f"{_what(problem)} ({place})"])), trace)


def _what(problem: BaseException) -> str:
    text = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    first = " ".join(text.split("\n")[0].split())
    return f"{type(problem).__name__}: {first}" if first else type(problem).__name__


def _place(problem: BaseException) -> str:
    """The last line of theirs that ran, or the line that cannot be read."""
    if isinstance(problem, SyntaxError) and problem.filename and _is_theirs(problem.filename):
        return f"{Path(problem.filename).name}, line {problem.lineno}"
    frames = traceback.walk_tb(problem.__traceback__)
    own = [(frame.f_code.co_filename, line) for frame, line in frames if _is_theirs(frame.f_code.co_filename)]
    return f"{Path(own[-1][0]).name}, line {own[-1][1]}" if own else ""


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame on that is theirs."""
    while trace is not None and not _is_theirs(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_theirs(file: str) -> bool:
    """Whether a file is neither ours, nor Python's, nor installed; one that a reference names is theirs anyway."""
    if file in _named:
        return True
    above = {str(parent) for parent in Path(file).parents}
    return not file.startswith(("<frozen", "<string>")) and _OURS not in above and not above & _PYTHON
