"""Faults of the machine: what the user reads, what is kept, and that the run goes on to the same bits."""

import errno
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HANG, ROOT, TINY

import attnbench
from attnbench import RunSpec, Runtime, Store
from attnbench.errors import BadSpec, OutOfMemory, StoreProblem
from attnbench.store.runs import RunRecord
from attnbench.training import loop, step

SPEC = RunSpec(**{**TINY, "batch_size": 50, "val_fraction": 0.2})
WORDS = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
LACKS = {
    "cpu": RuntimeError(WORDS),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "python": MemoryError(),
}


@pytest.fixture
def do(data_dir: Path) -> Callable[..., RunRecord]:
    def run(store: str = "runs", **runtime: Any) -> RunRecord:
        return attnbench.run(SPEC, Runtime(data_dir=str(data_dir), store=store, tracker="none", **runtime))

    return run


@pytest.fixture(scope="module")
def undisturbed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    store = tmp_path_factory.mktemp("undisturbed")
    return attnbench.run(SPEC, Runtime(data_dir=str(data_dir), store=str(store), tracker="none"))


def same(one: RunRecord, two: RunRecord) -> bool:
    return (one.weights_sha256, one.test) == (two.weights_sha256, two.test)


@pytest.mark.parametrize("lack", LACKS)
def test_out_of_memory_in_training_says_the_batch_size_and_goes_on_later(do, undisturbed, monkeypatch, lack):
    def short(*arguments: Any) -> Any:
        if next(steps) == 3:
            raise LACKS[lack]
        return update(*arguments)

    update, steps = step._update, itertools.count()
    with monkeypatch.context() as patch:
        patch.setattr(step, "_update", short)
        with pytest.raises(OutOfMemory, match="out of memory in training with a batch size of 50") as told:
            do(checkpoint_minutes=0.0)
    assert "--batch-size 25" in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert Store("runs").records() == [], "it is no failure of the run"
    assert len(Store("runs").checkpoints(SPEC.id)) == 2
    assert Store("runs").journal(SPEC.id)[-1]["event"] == "out of memory"
    again = do()
    assert again.resumed == 1
    assert same(again, undisturbed)


def test_what_a_device_cannot_do_deterministically_is_said_and_is_no_failure(do, monkeypatch):
    def refused(*_: object) -> None:
        raise RuntimeError("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you")

    monkeypatch.setattr(step, "_update", refused)
    with pytest.raises(BadSpec, match=r"deterministic: adaptive_avg_pool2d_backward_cuda has no .* give false"):
        do()
    assert Store("runs").records() == []


@pytest.mark.parametrize("lack", ["cpu", "cuda"])
def test_out_of_memory_in_the_test_trains_nothing_twice(do, undisturbed, monkeypatch, lack):
    def short(model: torch.nn.Module, images: torch.Tensor, flip: bool) -> torch.Tensor:
        if len(Store("runs").journal(SPEC.id)) > 3:  # after the last epoch
            sizes.append(len(images))
            raise LACKS[lack]
        return evaluated(model, images, flip)

    evaluated, sizes = loop._logits, list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_logits", short)
        with pytest.raises(OutOfMemory, match="in the test with a batch size of 50 and each half of it"):
            do()
    assert sizes == [50, 25, 12, 6, 3, 1]
    monkeypatch.setattr(step, "_update", lambda *_: pytest.fail("trained again"))
    assert same(do(), undisturbed)


def test_a_clock_that_jumps_changes_nothing_of_a_run(do, undisturbed, monkeypatch):
    jumps = itertools.cycle([0.0, 4e9, 1.0, -5.0, 1e9])
    monkeypatch.setattr("time.time", lambda: next(jumps))
    record = do(checkpoint_minutes=0.0)
    assert same(record, undisturbed)
    assert all(0 <= point["seconds"] < 600 for point in record.curves)
    assert [line["event"] for line in Store("runs").journal(SPEC.id)] == ["start", "epoch", "epoch", "test", "done"]


def test_a_store_that_can_only_be_read_is_said_in_a_line_and_left_alone(do, undisturbed, monkeypatch):
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreProblem, match="the store runs/ cannot be written: Read-only file system"):
        do()
    assert not Path("runs").exists()


@pytest.mark.slow
def test_fifty_kills_of_real_processes_leave_every_run_as_if_nothing_had_happened():
    command = [
        sys.executable,
        ROOT / "benchmarks" / "faults.py",
        "--kills",
        "50",
        "--seed",
        "0",
        "--write",
        "found.json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(Path("found.json").read_text())
    assert found["kills"] >= 50
    assert found["identical"] == found["runs"] >= 4
    assert found["moments"]["training"] >= 10


def test_a_record_that_cannot_be_read_is_named_with_what_to_do(do):
    record = do()
    file = Path(record.folder) / "record.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(StoreProblem, match=f"{file} cannot be read .*; delete it to train the run again"):
        do()
    file.unlink()
    assert same(do(), record)
