"""Archives unpacked with limits: files and folders below one folder, no links, and no more bytes than make sense."""

import gzip
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from attnbench.errors import DataProblem

MOST_MEMBERS = 1_000_000
MOST_GROWTH = 100
"""How many times its own size an archive may unpack to; those of images come to about 1, of labels to 2."""
LEAST_BYTES = 1 << 20
"""What any archive may unpack to, however small it is."""
_CHUNK = 1 << 20
_DAMAGED = (
    tarfile.TarError,
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain or compressed), a zip or a gzip file into a folder.

    Raises:
        DataProblem: it is damaged, has a member that is no file or would lie outside of the folder, or holds too much;
            or the folder cannot be written.
    """
    left = _Left(archive)
    try:
        if archive.suffix == ".zip":
            _unzip(archive, folder, left)
        elif archive.name.endswith((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")):
            _untar(archive, folder, left)
        else:
            with gzip.open(archive) as source:
                _write(source, folder / archive.stem, left)
    except _DAMAGED as problem:
        raise DataProblem(f"{archive} is damaged ({problem}); delete it and try again") from None
    except OSError as problem:
        raise DataProblem(f"{archive} cannot be unpacked into {folder}/: {problem.strerror or problem}") from None


class _Left:
    """What an archive may still unpack to."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.most = max(LEAST_BYTES, MOST_GROWTH * archive.stat().st_size)
        self.bytes, self.members = self.most, MOST_MEMBERS

    def take(self, size: int) -> None:
        """Count bytes before they are written."""
        self.bytes -= size
        if self.bytes < 0:
            raise DataProblem(f"{self.archive} unpacks to more than {self.most:,} bytes, {MOST_GROWTH} times its size")

    def place(self, folder: Path, name: str) -> Path:
        """Where a member goes."""
        self.members -= 1
        if self.members < 0:
            raise DataProblem(f"{self.archive} has more than {MOST_MEMBERS:,} members")
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
            raise DataProblem(f"{self.archive}: member {name!r} would lie outside of the folder; nothing is unpacked")
        return folder / path


def _unzip(archive: Path, folder: Path, left: _Left) -> None:
    with zipfile.ZipFile(archive) as found:
        for member in found.infolist():
            goal, kind = left.place(folder, member.filename), member.external_attr >> 28
            if member.is_dir():
                goal.mkdir(parents=True, exist_ok=True)
            elif kind not in (0, 0o10):
                raise DataProblem(f"{archive}: member {member.filename!r} is no file; nothing is unpacked")
            else:
                with found.open(member) as source:
                    _write(source, goal, left)


def _untar(archive: Path, folder: Path, left: _Left) -> None:
    with tarfile.open(archive) as found:
        for member in found:
            goal = left.place(folder, member.name)
            if member.isdir():
                goal.mkdir(parents=True, exist_ok=True)
                continue
            source = found.extractfile(member) if member.isreg() else None
            if source is None:
                raise DataProblem(f"{archive}: member {member.name!r} is no file; nothing is unpacked")
            _write(source, goal, left)


def _write(source: IO[bytes] | gzip.GzipFile, goal: Path, left: _Left) -> None:
    """Copy a member's bytes as they come, whatever its header says of their number."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    with goal.open("wb") as target:
        while chunk := source.read(_CHUNK):
            left.take(len(chunk))
            target.write(chunk)
