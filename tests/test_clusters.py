"""Studies on a Ray cluster and as Slurm jobs: whatever dies under them, the records are those of one machine."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import HANG, wait_for
from test_sweep import write_study

from attnbench.store.runs import RunRecord, Store

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from attnbench.execution import ray, slurm
from attnbench.cli import main
{patch}
main(sys.argv[1:])
"""
FAR = "ray._token = lambda store: 'the token of a store that no worker sees'"
"""As if every worker were on a machine without the store."""
HERE = "slurm.CLUSTER = 'local'"
"""submitit's own stand-in for Slurm, which queues a job again as Slurm does."""


@pytest.fixture
def begun(data_dir: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a study in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def begin(study: Path, patch: str, *flags: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROGRAM.format(patch=patch), "study", str(study), "--tracker", "none"]
        command += ["--data-dir", str(data_dir), *map(str, flags)]
        heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, preexec_fn=heard))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A Ray cluster of one node with one core; its processes keep what is theirs in the test's own folder."""
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from ray.cluster_utils import Cluster

    size = {"object_store_memory": 100 << 20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **size})
    yield found
    found.shutdown()


def held() -> list[psutil.Process]:
    """The processes that are in the third step of their runs, until they are told to stop."""
    return [psutil.Process(int(file.name.split("-")[1])) for file in Path().glob("began-*")]


def same(left: RunRecord, right: RunRecord) -> bool:
    """Whether two records are of the same bits."""
    told = [
        [{name: value for name, value in point.items() if "seconds" not in name} for point in record.curves]
        for record in (left, right)
    ]
    return (left.weights_sha256, left.test, told[0]) == (right.weights_sha256, right.test, told[1])


def compared(store: str, study: Path, begun: Callable[..., subprocess.Popen[str]]) -> list[int]:
    """Train a study on this machine alone, without interruption; how often the runs of a store of it were resumed."""
    assert Path("go").exists()
    alone = begun(study, "", "--store", "alone", "--jobs", 2)
    assert alone.wait(HANG) == 0
    found, whole = Store(store).records(), Store("alone").records()
    assert [record.id for record in found] == [record.id for record in whole]
    assert all(same(left, right) for left, right in zip(found, whole, strict=True))
    return [record.resumed for record in found]


@pytest.mark.parametrize("patch", ["", FAR], ids=["one store", "no shared store"])
def test_a_study_on_ray_outlives_a_killed_worker_and_a_lost_node(cluster, begun, patch):
    node = cluster.add_node(num_cpus=2, object_store_memory=100 << 20)
    cluster.wait_for_nodes()
    study = write_study("held", ["mine:Late"], seeds=3)
    parent = begun(study, patch, "--executor", "ray", "--address", cluster.address)
    wait_for(lambda: len(held()) == 3 or parent.poll() is not None)
    raylet = node.all_processes["raylet"][0].process.pid
    here = [child for child in held() if child.parent().ppid() != raylet]
    assert len(here) == 1
    Path("go").touch()
    here[0].parent().kill()
    cluster.remove_node(node, allow_graceful=False)
    said = parent.communicate(timeout=HANG)[0]
    assert parent.returncode == 0, said
    assert "(3 of 3 done, 0 running)" in said
    assert compared("runs", study, begun) == [1, 1, 1]


def test_ctrl_c_on_ray_leaves_checkpoints_and_the_same_call_goes_on(cluster, begun):
    study = write_study("held", ["mine:Held"], seeds=1)
    flags = ("--executor", "ray", "--address", cluster.address)
    parent = begun(study, "", *flags)
    wait_for(lambda: held() or parent.poll() is not None)
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=HANG)
    assert parent.returncode == 130
    assert list(Path("runs").rglob("checkpoint-*.pt"))
    Path("go").touch()
    assert begun(study, "", *flags).wait(HANG) == 0
    assert compared("runs", study, begun) == [1]


def test_a_preempted_job_of_slurm_is_queued_again_and_goes_on_from_its_checkpoint(begun):
    study = write_study("held", ["mine:Held"], seeds=2)
    parent = begun(study, HERE, "--executor", "slurm", "--minutes", 60)
    wait_for(lambda: len(held()) == 2 or parent.poll() is not None)
    Path("go").touch()
    child = held()[0]
    for number in (signal.SIGTERM, signal.SIGUSR2):  # as Slurm does it, to every process of a job
        for process in (child, child.parent()):
            os.kill(process.pid, number)
    os.kill(held()[1].parent().pid, signal.SIGUSR2)
    said = parent.communicate(timeout=HANG)[0]
    assert parent.returncode == 0, said
    assert compared("runs", study, begun) == [1, 1]
