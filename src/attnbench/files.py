"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def user_cache() -> Path:
    """The user's cache folder of ours, which may not be there yet; a temporary one for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnbench"
    except RuntimeError:  # neither HOME nor a known user id
        return Path(tempfile.gettempdir()) / f"attnbench-{os.getuid()}"


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
