"""Locks for what several processes write to MLflow: beside what they guard, few, and used again."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from attnbench.files import user_cache


@contextlib.contextmanager
def tracking_lock(uri: str) -> Iterator[None]:
    """Hold the making of a tracking database: beside a sqlite file, with its permissions; a server needs none."""
    if uri.startswith(("http:", "https:")):
        yield
        return
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///").split("?")[0])
        mode = database.stat().st_mode & 0o666 if database.exists() else 0o644
        beside = database.with_name(f"{database.name}.lock")
    else:
        mode, beside = 0o600, user_cache() / f"mlflow-{hashlib.sha256(uri.encode()).hexdigest()[:12]}.lock"
    with _held(beside, mode):
        yield


@contextlib.contextmanager
def sending_lock(store: Path, run: str) -> Iterator[None]:
    """Hold the sending of a run: one of sixteen locks of its store."""
    with _held(store / ".locks" / f"mlflow-{run[:1]}.lock", 0o644):
        yield


@contextlib.contextmanager
def _held(file: Path, mode: int) -> Iterator[None]:
    """The lock; where it cannot be written, one in the user's own folder, which holds among this user's processes."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(file, mode=mode).acquire()
    except OSError:
        mine = user_cache()
        mine.mkdir(parents=True, exist_ok=True)
        held = FileLock(mine / f"{hashlib.sha256(os.fsencode(file.absolute())).hexdigest()[:12]}.lock").acquire()
    with held:
        yield
