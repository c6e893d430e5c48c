"""A tracking server for many: eight runs at once, it and its PostgreSQL crash, and MLflow has it all in the end.

Seven runs are made by hand, for what they compute does not matter here; one trains.
"""

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import HANG, patient, wait_for
from postgres import Database, database
from test_tracking import MINE, flags
from tracking import assert_complete, client, points, server, shown, unused_port

from attnbench.store.runs import Store

pytestmark = pytest.mark.slow
RUN = """
import dataclasses, sys, time
from pathlib import Path

import made
from attnbench.spec.run import RunSpec
from attnbench.store.mlflow import mirrored
from attnbench.store.runs import Store
from attnbench.store.view import View

name, seed, *gates = sys.argv[1:]
record = made.run(Path(f"made-{seed}"), RunSpec(dataset=name, epochs=6, seed=int(seed)), 80.0)
record = dataclasses.replace(record, curves=[{**point, "seconds": 1.0} for point in record.curves])
store, run = Store("runs"), record.id
store.begin(run)
artifact = store.folder(run) / "notes.txt"
artifact.write_text(f"of run {seed}")
view = View("shared", {"dataset": name, "seed": seed}, {"study": "eight"}, artifacts=[str(artifact)])
store.write(run, View.FILE, view.to_json())
with mirrored(store, [run]):
    for point in record.curves:
        store.log(run, "epoch", **point)
        gate = gates[point["epoch"] // 2 - 1] if point["epoch"] in (2, 4) else ""
        while gate and not Path(gate).exists():
            time.sleep(0.05)
    (store.folder(run) / "weights.safetensors").write_bytes(seed.encode() * 1000)
    store.log(run, "done")
    store.save(record)
"""
"""One run by hand: six epochs, of which the third and the fifth wait for a file."""


@pytest.fixture
def postgres() -> Iterator[Database]:
    with database() as made:
        yield made


def begun(uri: str, data_dir: Path, gates: tuple[str, str], stack: ExitStack) -> list[subprocess.Popen[str]]:
    """Eight runs as processes of their own, each with a file of what it says; they end with the stack."""
    Path("run.py").write_text(RUN)
    Path("mine.py").write_text(MINE)
    trained = patient("attnbench", "run", *flags(attention="mine:Waiting", epochs=3), "--data-dir", data_dir)
    commands = [patient("run.py", "digits", seed, *gates) for seed in range(1, 8)] + [trained]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "shared", "PYTHONPATH": path}
    found = []
    for number, command in enumerate(commands):
        with Path(f"told-{number}").open("w") as told:
            found.append(subprocess.Popen(command, env=env, stderr=told, stdout=told, text=True))
        stack.callback(found[-1].kill)
    return found


def ended(processes: list[subprocess.Popen[str]]) -> None:
    codes = [process.wait(HANG) for process in processes]
    assert codes == [0] * len(processes), [Path(f"told-{n}").read_text() for n in range(len(processes))]


def shown_points(uri: str) -> int:
    """Of how many runs MLflow has a point."""
    return len({run for run, _ in points(uri)})


def epochs() -> list[int]:
    """How many epochs each run's journal has."""
    return [
        sum(json.loads(line)["event"] == "epoch" for line in file.read_text().splitlines())
        for file in Path("runs").glob("*/journal.jsonl")
    ]


def assert_all_there(uri: str, folder: Path) -> None:
    """Points, params, tags and artifacts of every run are what the store has, to the last byte."""
    assert_complete(uri=uri)
    there = client(uri)
    for key, run in shown(uri).items():
        home = Store("runs").folder(key)
        view = json.loads((home / "tracking.json").read_text())
        assert run.info.status == "FINISHED"
        assert run.data.params == view["params"]
        assert view["tags"].items() <= run.data.tags.items()
        sent = {Path(file).name: Path(file) for file in [*view["artifacts"], home / "weights.safetensors"]}
        assert {item.path for item in there.list_artifacts(run.info.run_id)} == set(sent)
        for name, file in sent.items():
            got = Path(there.download_artifacts(run.info.run_id, name, str(folder)))
            assert hashlib.sha256(got.read_bytes()).digest() == hashlib.sha256(file.read_bytes()).digest()


def test_eight_runs_lose_nothing_when_server_and_database_crash_and_come_back(
    postgres, attnbench, data_dir, tmp_path_factory
):
    port = unused_port()
    uri = f"http://127.0.0.1:{port}"
    served = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(HANG)}
    with ExitStack() as stack:
        with server(port, postgres.uri) as process:
            runs = begun(uri, data_dir, ("crashed", "back"), stack)
            wait_for(lambda: shown_points(uri) == 8 or any(run.poll() for run in runs))
            os.killpg(process.pid, signal.SIGKILL)
            postgres.crash()
        Path("crashed").touch()
        wait_for(lambda: sorted(epochs())[1:] == [4] * 7 or any(run.poll() for run in runs))  # none waited for it
        postgres.start()
        with server(port, postgres.uri):
            Path("back").touch()
            Path("go").touch()
            ended(runs)
            assert len(Store("runs").records()) == 8
            done = attnbench("sync", env=served)
            assert (done.returncode, done.stdout) == (0, "8 runs are in MLflow\n"), done.stderr
            assert_all_there(uri, tmp_path_factory.mktemp("got"))
            before = points(uri)
            assert attnbench("sync", env=served).returncode == 0
            assert points(uri) == before


@pytest.mark.parametrize("gone", ["server", "database"])
def test_what_is_gone_for_good_blocks_no_run(postgres, data_dir, gone):
    port = unused_port()
    uri = f"http://127.0.0.1:{port}"
    with ExitStack() as stack, server(port, postgres.uri) as process:
        runs = begun(uri, data_dir, ("crashed", "crashed"), stack)
        wait_for(lambda: shown_points(uri) == 8 or any(run.poll() for run in runs))
        if gone == "server":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            postgres.crash()
            stack.callback(postgres.start)
        Path("crashed").touch()
        Path("go").touch()
        ended(runs)
    assert sorted(epochs()) == [3, *[6] * 7]
    assert all(record.done for record in Store("runs").records())
    assert all("`attnbench sync` sends them once" in Path(f"told-{n}").read_text() for n in range(8))
