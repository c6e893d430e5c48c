"""Official files: fetched from torchvision's own addresses, resumed after a break, checked, unpacked in one step."""

import hashlib
import json
import shutil
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from attnbench.catalogue.cards import Source
from attnbench.data.folders import places
from attnbench.errors import DataProblem
from attnbench.files import replacing

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
    for (url, md5), content in zip(card.files, card.reads, strict=False):
        file = folder / url.rsplit("/", 1)[-1]
        if (root / content).exists():
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{file.name}.lock"):
                if not (root / content).exists():
                    _obtain(url, md5, file)
        except (OSError, HTTPException) as problem:
            raise DataProblem(
                f"{name} needs {root / content}, and {url} could not be had ({_reason(problem)}); "
                f"put {file.name} (md5 {md5}) into {folder}/, or the images into {root / places(name, card)}"
            ) from None
    if missing(card, root):
        raise DataProblem(f"{name}: the official files do not hold {', '.join(missing(card, root))}")


def _obtain(url: str, md5: str, file: Path) -> None:
    """Download a file unless it is there, check it, and unpack it where it lies."""
    if not file.exists():
        _fetch(url, file)
    _check(file, md5, url)
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


def _continue(url: str, partial: Path) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
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


def _check(file: Path, md5: str, url: str) -> None:
    """Compare with torchvision's md5 and write down the SHA-256 that was seen."""
    weak, strong = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            weak.update(chunk)
            strong.update(chunk)
    if weak.hexdigest() != md5:
        raise DataProblem(f"{file} has md5 {weak.hexdigest()}, the official one is {md5}; delete it and try again")
    seen = file.with_name("sha256-seen.json")
    known = json.loads(seen.read_text()) if seen.exists() else {}
    known[file.name] = {"sha256": strong.hexdigest(), "bytes": file.stat().st_size, "url": url}
    with replacing(seen) as target:
        json.dump(known, target, indent=1)


def _unpack(file: Path, folder: Path) -> None:
    """Unpack beside and move into place, so that a break leaves no half of a folder that looks whole."""
    if file.suffix == ".mat":
        return
    from torchvision.datasets.utils import extract_archive

    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as aside:
        extract_archive(str(file), aside)
        for item in Path(aside).iterdir():
            goal = folder / item.name
            if goal.is_dir():
                shutil.rmtree(goal)
            item.replace(goal)


def _reason(problem: BaseException) -> str:
    return str(getattr(problem, "reason", None) or problem)
