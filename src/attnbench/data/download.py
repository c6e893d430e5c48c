"""Official files: fetched over https, resumed after a break, checked by SHA-256, unpacked in one step."""

import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from filelock import FileLock

from attnbench.catalogue.cards import Source
from attnbench.data.folders import places
from attnbench.data.unpacking import unpack
from attnbench.errors import DataProblem
from attnbench.files import digest_of

_CHUNK = 1 << 20
_TRIES = 3


def missing(card: Source, root: Path) -> list[str]:
    """What the card reads and the data folder does not have."""
    return [path for path in card.reads if not (root / path).exists()]


def get(name: str, card: Source, root: Path) -> None:
    """Make the official files be there: nothing is fetched that is there, a broken fetch goes on where it stopped.

    Raises:
        DataProblem: no network, or a file that is not the official one; the message says what to put where.
    """
    folder = root / card.folder
    for (url, md5, sha256), content in zip(card.files, card.reads, strict=False):
        file = folder / url.rsplit("/", 1)[-1]
        if (root / content).exists():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{file.name}.lock"):
                if not (root / content).exists():
                    _obtain(url, sha256, file)
        except (OSError, HTTPException) as problem:
            raise DataProblem(
                f"{name} needs {root / content}, and {url} could not be had ({_reason(problem)}); "
                f"put {file.name} (md5 {md5}, sha256 {sha256}) into {folder}/, "
                f"or the images into {root / places(name, card)}"
            ) from None
    if missing(card, root):
        raise DataProblem(f"{name}: the official files do not hold {', '.join(missing(card, root))}")


def _obtain(url: str, sha256: str, file: Path) -> None:
    """Download a file unless it is there, check it, and unpack it where it lies."""
    if not file.exists():
        _fetch(url, file)
    _check(file, sha256)
    _unpack(file, file.parent)


def _fetch(url: str, file: Path) -> None:
    """Download into FILE.partial, from where an earlier try stopped, and rename when complete."""
    partial = file.with_name(file.name + ".partial")
    for attempt in range(1, _TRIES + 1):
        try:
            _continue(url, partial)
            break
        except (OSError, HTTPException) as problem:
            permanent = isinstance(problem, urllib.error.HTTPError) and problem.code < 500
            if attempt == _TRIES or permanent or not partial.exists():
                raise
    partial.replace(file)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where the file itself could be fetched from."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _private(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)


def _private(url: str) -> None:
    """Refuse an address at which others on the way could read or change what comes: all but https and this machine.

    Raises:
        DataProblem: it is such an address.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname == "127.0.0.1"):
        raise DataProblem(f"{url} is no https address; files are fetched over https only")


def _continue(url: str, partial: Path) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    _private(url)
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = _opener().open(request, timeout=30)
    except urllib.error.HTTPError as problem:
        if problem.code == 416 and have:  # nothing is left to fetch
            return
        raise
    with response:
        if have and response.status != 206:  # the server starts again from the beginning
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns) as progress, partial.open("ab" if have else "wb") as target:
            bar = progress.add_task(partial.name.removesuffix(".partial"), total=total, completed=have)
            while chunk := response.read1(_CHUNK):
                target.write(chunk)
                progress.advance(bar, len(chunk))
    if total is not None and partial.stat().st_size < total:
        raise OSError(f"the connection broke at {partial.stat().st_size:,} of {total:,} bytes")


def _check(file: Path, sha256: str) -> None:
    """Refuse a file that is not the official one, before anything in it is read."""
    if (found := digest_of(file)) != sha256:
        raise DataProblem(f"{file} has SHA-256 {found}, the official one is {sha256}; delete it and try again")


def _unpack(file: Path, folder: Path) -> None:
    """Unpack beside and move into place, so that a break leaves no half of a folder that looks whole."""
    if file.suffix == ".mat":
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as aside:
        unpack(file, Path(aside))
        for item in Path(aside).iterdir():
            goal = folder / item.name
            if goal.is_dir():
                shutil.rmtree(goal)
            item.replace(goal)


def _reason(problem: BaseException) -> str:
    return str(getattr(problem, "reason", None) or problem)
