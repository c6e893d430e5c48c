"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


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
