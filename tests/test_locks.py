"""Locks of what MLflow is sent: beside what they guard, few, and open to all who may write there."""

import stat
import tempfile
from pathlib import Path

import pytest

from attnbench.files import user_cache
from attnbench.store.locks import sending_lock, tracking_lock


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """A home and a folder for temporary files of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def files(folder: str) -> set[str]:
    return {file.name for file in Path(folder).rglob("*.lock")}


def test_the_lock_of_a_database_lies_beside_it_with_its_permissions():
    Path("mlflow.db").touch()
    Path("mlflow.db").chmod(0o666)
    with tracking_lock(f"sqlite:///{Path.cwd()}/mlflow.db"):
        pass
    assert stat.S_IMODE(Path("mlflow.db.lock").stat().st_mode) == 0o666


def test_a_server_needs_no_lock_and_another_database_has_one_in_the_users_folder():
    with tracking_lock("http://127.0.0.1:5000"):
        pass
    assert files(".") == set()
    for _ in range(2):
        with tracking_lock("postgresql://somewhere/runs"):
            pass
    assert len(files("cache")) == len(files(".")) == 1


def test_a_thousand_runs_have_sixteen_locks_in_their_store_and_none_among_the_temporary_files():
    for number in range(1000):
        with sending_lock(Path("runs"), f"{number * 7919:012x}"[::-1]):
            pass
    assert len(files("runs")) == 16
    assert files("temporary") == files("cache") == set()


def test_where_the_place_cannot_be_written_the_users_folder_serves():
    """A file where the folder would be stands for a read-only store: it stops root too."""
    Path("runs").write_text("in the way")
    with sending_lock(Path("runs"), "a" * 12):
        assert len(files("cache")) == 1


def test_a_user_without_home_or_name_has_a_folder_among_the_temporary_files(monkeypatch):
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    assert user_cache().parent == Path("temporary").resolve()
