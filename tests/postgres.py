"""A PostgreSQL of the tests' own: made in a folder of its own, started, crashed and started again, gone afterwards."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HANG
from tracking import unused_port

USER = "postgres"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, which Debian keeps off the PATH; None where PostgreSQL is not installed."""
    on_path = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    found = Path(on_path).resolve() if on_path else debian[-1] if debian else None
    return found.parent if found else None


class Database:
    """A cluster that listens on 127.0.0.1; it refuses to be root's, so root's tests run it as the user postgres."""

    def __init__(self, bin_: Path, folder: Path) -> None:
        self.bin, self.folder, self.port = bin_, folder, unused_port()
        self.owner = USER if os.getuid() == 0 else None
        self._call("initdb", "--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        self.start()

    @property
    def uri(self) -> str:
        """As SQLAlchemy, and so MLflow, wants it; without the driver's name it takes another one."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, mending what a crash left."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._call("pg_ctl", "--wait", "--log", str(self.folder / "log"), "--options", options, "start")

    def crash(self) -> None:
        """End it as a power cut would: nothing is written any more."""
        self._call("pg_ctl", "--wait", "--mode", "immediate", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), "--pgdata", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, user=self.owner, timeout=HANG)


@contextlib.contextmanager
def database() -> Iterator[Database]:
    """A fresh database for the block; the test is skipped where PostgreSQL is not installed."""
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL on this machine (initdb is neither on the PATH nor in /usr/lib/postgresql)")
    with tempfile.TemporaryDirectory(prefix="attnbench-postgres-") as folder:
        if os.getuid() == 0:
            os.chown(folder, *pwd.getpwnam(USER)[2:4])
        made = Database(found, Path(folder))
        try:
            yield made
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):  # a test may have crashed it already
                made.crash()
