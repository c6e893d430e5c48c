"""MLflow shows what the journals hold, and nothing that happens to it ever reaches a run.

"Fact" is one of the facts measured in the project's page on dependencies.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HANG, TINY, patient, wait_for
from tracking import METRICS, assert_complete, client, points, server, shown, unused_port

from attnbench.errors import AttnbenchError
from attnbench.spec.run import RunSpec
from attnbench.store.runs import RunRecord, Store

MINE = """
import time
from pathlib import Path
from torch import nn

class Failing(nn.Module):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        if self.training and len(x) > 2:  # more than it is tried on before training
            raise RuntimeError("planted")
        return x

class Waiting(nn.Module):  # in its second epoch, of four steps, until somebody writes the file `go`
    def __init__(self, channels):
        super().__init__()
        self.calls = 0
    def forward(self, x):
        self.calls += self.training
        while self.calls > 4 and not Path("go").exists():
            time.sleep(0.01)
        return x
"""
Outcome = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # of this process, which looks into MLflow


@pytest.fixture(scope="session")
def attnbench() -> Callable[..., Outcome]:
    """The command line, patient."""

    def call(*arguments: object, env: dict[str, str] | None = None) -> Outcome:
        command, env = patient("attnbench", *arguments), {**os.environ, **(env or {})}
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=HANG)

    return call


def flags(**fields: object) -> list[str]:
    return [word for name, value in {**TINY, **fields}.items() for word in (f"--{name}", str(value))]


def write_study(*attention: str) -> str:
    Path("mine.py").write_text(MINE)
    study = {"name": "views", "base": TINY, "grid": {"attention": list(attention)}, "baseline": attention[0]}
    Path("views.json").write_text(json.dumps(study))
    return "views.json"


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, attnbench: Callable[..., Outcome], data_dir: Path) -> Path:
    """A folder in which a study of a run that is done and one that failed was mirrored, with what it said."""
    home = tmp_path_factory.mktemp("tracked")
    with contextlib.chdir(home):
        study = write_study("none", "mine:Failing")
        env = {"MLFLOW_EXPERIMENT_NAME": "of my own"}
        done = attnbench("study", study, "--data-dir", data_dir, env=env)
    (home / "said.txt").write_text(done.stderr)
    assert done.returncode == 1, done.stderr
    return home


@pytest.fixture
def copied(tracked: Path) -> dict[str, RunRecord]:
    """The tracked folder's content, here, for this test alone; its two records by mechanism."""
    shutil.copytree(tracked, ".", dirs_exist_ok=True)
    return {record.spec["attention"]: record for record in Store("runs").records()}


def test_by_default_the_runs_are_in_a_database_in_the_folder_and_its_making_is_announced(tracked):
    said = (tracked / "said.txt").read_text()
    assert (tracked / "mlflow.db").is_file()  # fact 1
    assert not (tracked / "mlruns" / "0").exists()
    assert re.search(r"^attnbench: MLflow makes its database sqlite:.*mlflow.db \(once", said, re.MULTILINE)


def test_a_run_is_shown_flat_with_its_fields_its_key_and_its_study(copied):
    for record in copied.values():  # fact 6
        run = shown()[record.id]
        assert run.data.params == {name: str(value) for name, value in record.spec.items()}
        assert run.data.tags["study"] == "views"
        assert "mlflow.parentRunId" not in run.data.tags


def test_a_run_is_named_by_mechanism_backbone_seed_data_and_study_and_says_where_it_came_from(copied):
    tags = shown()[copied["none"].id].data.tags
    assert tags["mlflow.runName"] == f"none {TINY['backbone']} seed 0 digits (views)"
    assert tags["mlflow.source.name"] == "attnbench"


def test_the_data_of_a_done_run_are_its_input(copied):
    record = copied["none"]
    (given,) = shown()[record.id].inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("digits", record.data_fingerprint[:36])
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]


def test_a_study_says_where_its_runs_are_once(tracked):
    said = (tracked / "said.txt").read_text()
    (page,) = re.findall(
        r"^attnbench: MLflow shows the runs: attnbench ui, or mlflow ui and (\S+)$", said, re.MULTILINE
    )
    assert page == "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"


@pytest.mark.slow
def test_a_report_of_a_tracked_study_is_a_run_with_the_page_the_verdicts_and_the_file(copied, attnbench):
    for _ in range(2):  # the second one replaces the files of the first
        done = attnbench("report", "views.json")
        assert done.returncode == 0, done.stderr
    assert "MLflow shows the runs" in done.stderr
    summary = shown()["summary:views"]
    assert summary.info.status == "FINISHED"
    assert summary.data.tags["mlflow.runName"] == "views: verdicts"
    assert summary.data.tags["study"] == "views"
    names = {item.path for item in client().list_artifacts(summary.info.run_id)}
    assert names == {"index.html", "cells.csv", "table.md", "views.json"}


@pytest.mark.parametrize(("words", "uri"), [([], "dead"), (["--tracker", "none"], "dead"), ([], "")])
def test_a_report_needs_no_tracking_server(words, uri, copied, attnbench):
    """One that is dead, one that is not wanted, and none where nothing was ever tracked."""
    Path("mlflow.db").unlink()
    env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{unused_port()}"} if uri else {}
    done = attnbench("report", "views.json", *words, env=env)
    assert done.returncode == 0, done.stderr
    assert Path("reports/views/index.html").is_file()
    assert done.stderr.count("MLflow has not got this report") == (uri == "dead" and not words)
    assert not Path("mlflow.db").exists()


def test_each_epoch_is_one_point_of_each_curve(copied):
    assert_complete()


def test_a_done_run_is_finished_and_a_failed_one_failed(copied):
    assert {name: shown()[record.id].info.status for name, record in copied.items()} == {
        "none": "FINISHED",
        "mine:Failing": "FAILED",
    }


def test_the_users_name_of_the_experiment_is_respected(copied):
    (experiment,) = {run.info.experiment_id for run in shown().values()}  # fact 7
    assert client().get_experiment(experiment).name == "of my own"


def test_the_weights_go_along_as_safetensors(copied):
    run = shown()[copied["none"].id]  # fact 5
    assert [item.path for item in client().list_artifacts(run.info.run_id)] == ["weights.safetensors"]


@pytest.mark.slow
def test_mirroring_and_syncing_again_change_nothing(copied, attnbench, data_dir):
    before = points()
    for words in (["sync"], ["run", *flags(), "--data-dir", data_dir], ["sync"]):
        done = attnbench(*words)
        assert done.returncode == 0, done.stderr
    assert "2 runs are in MLflow" in done.stdout
    assert points() == before
    assert {run.data.tags["study"] for run in shown().values()} == {"views"}


@pytest.mark.slow
def test_sync_fills_a_tracking_database_that_is_gone(copied, attnbench):
    before = points()
    Path("mlflow.db").unlink()
    assert attnbench("sync").returncode == 0
    shutil.copy("mlflow.db", "filled.db")  # this process still has the deleted one open under its name
    filled = f"sqlite:///{Path.cwd()}/filled.db"
    assert points(filled) == before
    assert {key: run.info.status for key, run in shown(filled).items()} == {
        record.id: "FINISHED" if record.done else "FAILED" for record in copied.values()
    }


def test_an_epoch_is_one_batch(copied, monkeypatch):
    """Fact 3: a call costs 29 ms, however many points it carries."""
    from mlflow import MlflowClient

    from attnbench.store.mlflow import Mirror
    from attnbench.store.view import View

    batches: list[int] = []
    send = MlflowClient.log_batch
    monkeypatch.setattr(
        MlflowClient,
        "log_batch",
        lambda self, run, **sent: batches.append(len(sent.get("metrics", ()))) or send(self, run, **sent),
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")
    store, spec = Store("other"), RunSpec(**TINY, seed=9)
    store.begin(spec.id)
    store.write(spec.id, View.FILE, View.of(spec).to_json())
    mirror = Mirror(store)
    mirror.open()
    for epoch in (1, 2, 3):
        store.log(spec.id, "epoch", epoch=epoch, **dict.fromkeys(METRICS, 0.5))
        mirror.deliver(spec.id)
    assert batches == [0, 4, 4, 4]  # the params, then each epoch


@pytest.fixture
def begun(monkeypatch) -> tuple[Any, str]:
    """A mirror that is open on a database in this folder, and a run with one epoch."""
    from attnbench.store.mlflow import Mirror
    from attnbench.store.view import View

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")
    store, spec = Store("runs"), RunSpec(**TINY)
    store.begin(spec.id)
    store.write(spec.id, View.FILE, View.of(spec).to_json())
    store.log(spec.id, "epoch", epoch=1, **dict.fromkeys(METRICS, 0.5))
    mirror = Mirror(store)
    mirror.open()
    return mirror, spec.id


def test_params_that_did_not_arrive_with_the_run_are_sent_later(begun, monkeypatch):
    from mlflow import MlflowClient

    mirror, run = begun
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "log_batch", lambda *_, **__: pytest.fail("planted"))
        with pytest.raises(pytest.fail.Exception):
            mirror.deliver(run)
    assert shown()[run].data.params == {}
    mirror.deliver(run)
    assert shown()[run].data.params["backbone"] == TINY["backbone"]
    assert points()[run, "train_loss"]


def test_a_run_that_cannot_be_sent_keeps_no_other_from_it(monkeypatch):
    from attnbench.store import mlflow

    class Refusing:
        refusal, asked = "", list[str]()

        def open(self) -> None: ...

        def deliver(self, run: str) -> None:
            self.asked.append(run)
            if len(self.asked) == 5:
                over.set()
            assert run != "lost", "planted"

    mirror, over, trouble = Refusing(), threading.Event(), list[str]()
    monkeypatch.setattr(mlflow, "POLL_SECONDS", 0.01)
    mlflow._follow(mirror, ["lost", "other"], over, trouble)
    assert "other" in mirror.asked
    assert {*trouble} == {"planted"}


def test_a_deleted_experiment_is_told_with_the_command_that_restores_it(begun, attnbench):
    mirror, run = begun
    there = client()
    key = there.create_experiment("attnbench")
    there.delete_experiment(key)
    with pytest.raises(AttnbenchError) as told:
        mirror.deliver(run)
    (advice,) = re.findall(r"restore it with mlflow (experiments restore .*)", str(told.value))
    done = subprocess.run([sys.executable, "-m", "mlflow", *advice.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mirror.deliver(run)
    assert run in shown()


def test_a_file_that_is_no_database_is_not_taken_for_an_old_file_store(monkeypatch):
    from attnbench.store.mlflow import Mirror

    Path("mlflow.db").write_text("version https://git-lfs.github.com/spec/v1\n" * 40)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/mlflow.db")
    with pytest.raises(Exception, match="not a database"):
        Mirror(Store("runs")).open()


# --- processes ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_the_parent_of_a_study_imports_mlflow_and_with_telemetry_off(attnbench, data_dir, monkeypatch):
    """An `mlflow` that writes down who imports it, and then fails as a broken installation would."""
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    Path("stub").mkdir()
    Path("stub/mlflow.py").write_text(
        "import os, sys\n"
        "with open('importers', 'a') as file:\n"
        "    print(sys.argv[0].rsplit('/')[-1], os.environ.get('MLFLOW_DISABLE_TELEMETRY'), file=file)\n"
        "raise ImportError('planted')\n"
    )
    path = os.pathsep.join(filter(None, ["stub", os.environ.get("PYTHONPATH")]))
    done = attnbench("study", write_study("none"), "--data-dir", data_dir, env={"PYTHONPATH": path})
    assert Path("importers").read_text() == "__main__.py true\n"  # facts 4, 7; a child would be worker.py
    assert done.returncode == 0, done.stderr
    assert "planted" in done.stderr
    assert [record.status for record in Store("runs").records()] == ["done"]


def test_ui_is_mlflows_own_on_the_loopback_with_telemetry_off(attnbench, monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY")
    Path("mlflow.py").write_text("import os, sys; print(*sys.argv[1:], os.environ['MLFLOW_DISABLE_TELEMETRY'])")
    assert attnbench("ui", "--port", 5050).stdout == "ui --host 127.0.0.1 --port 5050 true\n"
    assert attnbench("ui", "--port", 5050, "--host", "::1").stdout == "ui --host ::1 --port 5050 true\n"


EXPERIMENTS = [
    {"name": "Default", "experiment_id": "0", "last_update_time": 9},
    {"name": "earlier", "experiment_id": "1", "last_update_time": 3},
    {"name": "later", "experiment_id": "2", "last_update_time": 5},
]


@pytest.mark.parametrize(
    ("name", "own", "page"),
    [("", [], "2/runs"), ("earlier", [], "1/runs"), ("", [{"name": "attnbench", "experiment_id": "7"}], "7/runs")],
)
def test_ui_opens_the_runs_of_the_experiment_that_is_meant(name, own, page, monkeypatch, capsys):
    from attnbench.cli import tracking

    opened: list[str] = []
    monkeypatch.setattr(tracking, "browse", opened.append)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://runs.example")  # a server that is there: no other is started
    answer = json.dumps({"experiments": EXPERIMENTS + own}).encode()
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(answer))
    assert tracking.ui() == 0
    assert opened == [f"http://runs.example/#/experiments/{page}?workflowType=machine_learning"]
    assert opened[0] in capsys.readouterr().err


def test_ui_says_in_a_line_that_a_server_does_not_answer(monkeypatch):
    from attnbench.cli import tracking

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(AttnbenchError, match="does not answer"):
        tracking.ui()


@pytest.mark.slow
def test_four_processes_on_a_fresh_tracking_store_all_arrive(data_dir):
    """Fact 2: six that open a fresh sqlite store at once break it for good."""
    command = patient("attnbench", "run", "--data-dir", data_dir)
    four = [subprocess.Popen([*command, *flags(seed=seed)], stderr=subprocess.PIPE, text=True) for seed in range(4)]
    said = [process.communicate(timeout=HANG)[1] for process in four]
    assert [process.returncode for process in four] == [0, 0, 0, 0], said
    assert not any("did not" in complaint for complaint in said), said
    assert sorted(run.data.params["seed"] for run in shown().values()) == ["0", "1", "2", "3"]
    assert {run.info.status for run in shown().values()} == {"FINISHED"}
    assert [e.name for e in client().search_experiments() if e.name != "Default"] == ["attnbench"]
    assert_complete()


# --- a server that is not there -----------------------------------------------------------------------------------


def assert_done_but_not_sent(outcome: Outcome) -> None:
    assert outcome.returncode == 0, outcome.stderr
    assert [record.status for record in Store("runs").records()] == ["done"]
    assert re.search(r"MLflow: 1 of 1 runs did not fully arrive .*`attnbench sync`", outcome.stderr), outcome.stderr


def test_a_dead_tracking_server_costs_a_run_nothing(attnbench, data_dir):
    env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{unused_port()}"}
    assert_done_but_not_sent(attnbench("run", *flags(), "--data-dir", data_dir, env=env))
    refused = attnbench("sync", env=env)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr


@pytest.mark.slow
def test_a_tracking_server_that_never_answers_costs_a_run_nothing(attnbench, data_dir):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        assert_done_but_not_sent(attnbench("run", *flags(), "--data-dir", data_dir, env=env))


@pytest.mark.slow
def test_in_a_folder_with_an_old_file_store_the_run_goes_on_and_says_how_to_migrate(attnbench, data_dir):
    Path("mlruns/0").mkdir(parents=True)
    Path("mlruns/0/meta.yaml").write_text(
        "artifact_location: file:./mlruns/0\nexperiment_id: '0'\nlifecycle_stage: active\nname: Default\n"
        "creation_time: 1700000000000\nlast_update_time: 1700000000000\n"
    )
    done = attnbench("run", *flags(), "--data-dir", data_dir)
    assert_done_but_not_sent(done)
    (advice,) = re.findall(r"mlflow (migrate-filestore .*), then move ./mlruns away$", done.stderr, re.MULTILINE)
    subprocess.run([sys.executable, "-m", "mlflow", *advice.split()], check=True, capture_output=True)
    Path("mlruns").rename("mlruns-before")
    assert attnbench("sync").returncode == 0
    assert_complete()


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_run_costs_it_nothing_and_sync_repairs(attnbench, data_dir):
    write_study("none")
    port = unused_port()
    uri = f"http://127.0.0.1:{port}"
    words = ["run", *flags(attention="mine:Waiting", epochs=3), "--data-dir", str(data_dir)]
    command = patient("attnbench", *words)
    served = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(HANG)}
    with server(port) as process, (Path.cwd() / "told").open("w+") as told:
        running = subprocess.Popen(command, env={**os.environ, **served}, stderr=told, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: points(uri) or running.poll() is not None)
            os.killpg(process.pid, signal.SIGKILL)
            assert not list(Path("runs").glob("*/record.json")), "the run was over before the server died"
            Path("go").touch()
            running.wait(HANG)
        finally:
            running.kill()
    complaint = Path("told").read_text()
    assert_done_but_not_sent(Outcome(command, running.returncode, "", complaint))
    with server(port):
        assert {run.info.status for run in shown(uri).values()} == {"RUNNING"}
        assert attnbench("sync", env=served).stdout == "1 runs are in MLflow\n"
        assert {run.info.status for run in shown(uri).values()} == {"FINISHED"}
        assert_complete(uri=uri)
    assert attnbench(*words, "--tracker", "none", "--store", "alone").returncode == 0
    (mirrored,), (alone,) = Store("runs").records(), Store("alone").records()
    assert (mirrored.weights_sha256, mirrored.test) == (alone.weights_sha256, alone.test)
