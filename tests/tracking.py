"""What MLflow holds, by the keys of our runs, and a tracking server of the tests' own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import HANG, wait_for

from attnbench.store.runs import Store

METRICS = {"train_loss", "train_accuracy", "lr", "seconds"}
Points = dict[tuple[str, str], list[tuple[int, float, int]]]


def client(uri: str = "") -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri or f"sqlite:///{Path.cwd()}/mlflow.db")


def shown(uri: str = "") -> dict[str, Any]:
    """Every MLflow run by the key of ours; none is there twice."""
    there = client(uri)
    runs = there.search_runs([experiment.experiment_id for experiment in there.search_experiments()])
    keys = [run.data.tags["run_key"] for run in runs]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, runs, strict=True))


def points(uri: str = "") -> Points:
    """Every point that MLflow holds: (run, metric) -> (step, value, time)."""
    return {
        (key, name): [(p.step, p.value, p.timestamp) for p in client(uri).get_metric_history(run.info.run_id, name)]
        for key, run in shown(uri).items()
        for name in run.data.metrics
    }


def assert_complete(store: str = "runs", uri: str = "") -> None:
    """MLflow holds each point of each journal once, and nothing else."""
    there = {key: [(step, value) for step, value, _ in listed] for key, listed in points(uri).items()}
    expected = {}
    for record in Store(store).records():
        for name in METRICS if record.done else ():
            expected[record.id, name] = [(point["epoch"], point[name]) for point in record.curves]
        if record.done:
            expected[record.id, "final_test_accuracy"] = [(0, record.accuracy)]
    assert there == expected


def unused_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(port: int, database: str = "sqlite:///served.db") -> Iterator[subprocess.Popen[bytes]]:
    """A tracking server, its artifacts in this folder; its whole process group ends with the block."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", "./served"]
    with answering(command, port, Path.cwd()) as process:
        yield process


@contextlib.contextmanager
def answering(command: list[str], port: int, folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of MLflow's in a folder, from when it answers; SIGTERM lets it end its helpers too."""
    log, env = folder / "server.log", {**os.environ, **environment}
    with log.open("ab") as said:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said, start_new_session=True)
    try:
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/health") or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(HANG)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(url, timeout=HANG).status == 200)
    return False
