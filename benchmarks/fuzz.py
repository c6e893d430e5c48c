"""Fuzz every reader of files with inputs that are nearly right, and keep what was tried.

python benchmarks/fuzz.py [--inputs 1000000] [--readers record,journal] [--write]

A reader may give a value or one message of ours. Anything else is a fault: another exception, more than SECONDS, a
file changed outside of its folder, a module imported, a program begun, something unpickled. A fault stops the reader
it was found in, whose smallest such input hypothesis prints.
"""

import argparse
import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
from filelock import FileLock
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import changed
from readers import JSON, READERS, ROOT, Reader
from watching import watched

from attnbench.errors import AttnbenchError

SECONDS = 20
"""What no input of these sizes takes, on a busy machine either."""
FILE = ROOT / "results" / "reliability" / "fuzz.json"

CHUNK = 2000
"""Inputs that hypothesis draws at once."""
SETTINGS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "phases": [Phase.generate, Phase.shrink],
    "suppress_health_check": list(HealthCheck),
}
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Files that live for a millisecond need no disk."""


class Hang(BaseException):
    """An input took too long; no reader catches this."""


def main() -> None:
    """Fuzz, print a line for each reader, and write down what was tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="of all readers together")
    parser.add_argument("--readers", default=",".join(READERS), help="names, with commas")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.relative_to(ROOT)}")
    asked = parser.parse_args()
    whole, faulty = sum(reader.share for reader in READERS.values()), list[str]()
    for name in asked.readers.split(","):
        began = time.perf_counter()
        try:
            found = fuzzed(name, -(-asked.inputs * READERS[name].share // whole), bulk=100)
        except (Exception, Hang):
            traceback.print_exc()
            faulty.append(name)
            continue
        row = {**found, "seconds": round(time.perf_counter() - began), "date": str(datetime.date.today())}
        print(f"{name}: {row}", flush=True)
        if asked.write:
            _keep(name, row)
    sys.exit(f"faults in: {', '.join(faulty)}" if faulty else 0)


def fuzzed(name: str, inputs: int, bulk: int = 1) -> dict[str, Any]:
    """Give a reader so many inputs; raises at the first fault, with the smallest input that has it.

    Args:
        bulk: inputs for each example that hypothesis draws. Above 1 it draws where a fast generator starts, which
            tries a hundred times as many inputs in the same time, but makes no fault small.

    Returns:
        `inputs` that were read, how many gave a `value` and a `message`, and milliseconds of the `slowest`.
    """
    reader, count, slowest = READERS[name], Counter[str](), 0.0
    valid = reader.valid()

    def read(content: bytes) -> None:
        nonlocal slowest
        began = time.perf_counter()
        try:
            count[tried(reader, home, content)] += 1
        except BaseException as fault:
            fault.add_note(f"{name}: {content[:2000]!r}")
            raise
        slowest = max(slowest, time.perf_counter() - began)

    with tempfile.TemporaryDirectory(prefix="attnbench-fuzz-", dir=MEMORY) as folder, _quiet():
        home = Path(folder)
        for each in [*valid, b"", *valid]:
            outcome = tried(reader, home, each, first=True)
            assert not each or outcome == "value", f"{name}: a valid file was refused"
        for start in range(0, -(-inputs // bulk), CHUNK):  # of its own, or hypothesis remembers all of them

            @hypothesis.seed(start)
            @settings(max_examples=min(CHUNK, -(-inputs // bulk) - start), **SETTINGS)
            @given(st.data())
            def each_is_read_or_refused(data: st.DataObject) -> None:
                if bulk == 1:
                    return read(changed(lambda low, high: data.draw(st.integers(low, high)), valid, name in JSON))
                pick = random.Random(data.draw(st.integers(0, 1 << 64))).randint
                for _ in range(bulk):
                    read(changed(pick, valid, name in JSON))
                return None

            each_is_read_or_refused()
    return {"inputs": sum(count.values()), **count, "slowest": round(1000 * slowest)}


def tried(reader: Reader, home: Path, content: bytes, first: bool = False) -> str:
    """What a reader made of a file: `value` or `message`; at its `first` call it may import what it needs.

    Raises:
        AssertionError: it did something besides reading.
        Hang: it took too long.
        Exception: whatever it raised that is no message of ours.
    """
    file = home / reader.file
    if reader.writes or not file.parent.is_dir():
        shutil.rmtree(home, ignore_errors=True)
        file.parent.mkdir(parents=True)
    file.write_bytes(content)
    modules = len(sys.modules)
    with watched(home) as seen, _in_time():
        try:
            reader.read(file)
            outcome = "value"
        except AttnbenchError:
            outcome = "message"
    assert not seen, seen
    assert first or len(sys.modules) == modules, [*sys.modules][modules:]
    return outcome


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise Hang(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither warnings nor what is said on stderr."""
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        yield


def _keep(name: str, row: dict[str, Any]) -> None:
    """Put a reader's row into the file, which other processes may write too."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(Path(tempfile.gettempdir()) / "attnbench-fuzz.lock"):
        found = json.loads(FILE.read_text()) if FILE.exists() else {"readers": {}}
        found["readers"][name] = row
        found["readers"] = {each: found["readers"][each] for each in READERS if each in found["readers"]}
        found |= {"python": sys.version.split()[0], "hypothesis": hypothesis.__version__, "seconds_allowed": SECONDS}
        FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
