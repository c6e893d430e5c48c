"""What every test may use: small runs, a place of its own, and the real images where they exist."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import made
import pytest
from made import Shown

from attnbench import Study
from attnbench.spec.contest import Contest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from attnbench.spec.study import Study

# Before anything imports torch: two pytest workers with two threads each mostly wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"

HANG = 1800
"""Seconds that nothing here takes on any machine, however slow and busy: what is not there by then never comes."""

PATIENT = f"""
import runpy, sys
from attnbench.store import mlflow
mlflow.CLOSE_SECONDS = {HANG}
sys.argv.pop(0)
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""

TINY = {
    "dataset": "digits",
    "backbone": "resnet20(widths=(4, 8, 8))",
    "epochs": 2,
    "train_limit": 100,
    "test_limit": 50,
}
"""A run of about a second, once the data are decoded."""


def patient(program: object, *arguments: object) -> list[str]:
    """The command of a script or module of ours, which waits for MLflow at its end as long as a test would."""
    return [sys.executable, "-c", PATIENT, str(program), *map(str, arguments)]


def repository_study(file: Path) -> "Study":
    """A file of the repository's studies, one with a budget as what `attnbench choose` reads."""
    from attnbench.spec.study import Study

    return (Contest if "\nbudget:" in file.read_text() else Study).load(file)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    late = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < late, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in an empty folder, with no settings of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNBENCH_STORE", "ATTNBENCH_DATA_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data folder for the session, so that the digits are decoded once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Unpack archives of real images into one folder, by their paths below the shared one; skip where that is not."""
    import tarfile

    root = tmp_path_factory.mktemp("real")
    there: set[str] = set()

    def unpack(*archives: str) -> Path:
        if not SHARED.is_dir():
            pytest.skip("the real images of ../shared/data are not on this machine")
        for name in set(archives) - there:
            with tarfile.open(SHARED / name) as archive:
                archive.extractall(root, filter="data")
            there.add(name)
        return root

    return unpack


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """The system's Chromium, which asks for nothing by itself."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "the tests of pages need Debian's package chromium"
    quiet = ["gpu", "quic", "background-networking", "component-update", "sync"]
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="session")
def attnbench() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a user does, in a process of its own: attnbench("run", "--dataset", "digits")."""

    def call(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "attnbench", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=HANG)

    return call


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Two data sets, all arms, six seeds; one run of CBAM failed, and some of SE were tested with other gates."""
    folder = tmp_path_factory.mktemp("page") / "runs"
    for record in made.fill(folder, made.study()):
        dataset, name, seed = (record.spec[field] for field in ("dataset", "attention", "seed"))
        if (dataset, name) == ("digits", "se"):
            made.gate(folder, record, "shuffled", -1.5 - 0.3 * seed)
            if seed < 4:
                made.gate(folder, record, "mean", -0.2 * seed)
        if (dataset, name, seed) == ("fashionmnist", "cbam", 2):
            made.fail(folder, record)
    return folder


@pytest.fixture(scope="module", params=[("independent", 1.0), ("paired", 2.0)], ids=["independent", "paired"])
def shown(request, store) -> Shown:
    pairing, margin = request.param
    return Shown.of(made.rendered(made.study(pairing=pairing, margin=margin), store), pairing, margin, made.read(store))
