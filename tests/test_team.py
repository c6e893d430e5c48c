"""One run by several processes: the same batches in shares, the losses of one process, the same bits after a stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HANG
from test_gpu import Hungry
from torch import Tensor, nn

import attnbench
from attnbench import RunSpec, Runtime, Store
from attnbench.data.batches import Batches, share
from attnbench.data.splits import constants, load_splits
from attnbench.errors import BadSpec, StoreProblem
from attnbench.examine.reproduce import reproduce
from attnbench.networks.network import fresh_network, network
from attnbench.training.loop import training
from attnbench.training.resuming import _sees_whole_batches
from attnbench.training.state import State
from attnbench.training.step import How
from attnbench.training.team import Team

CPU, TESTS = torch.device("cpu"), Path(__file__).parent
PLAIN = {
    "dataset": "stripes:stripes",
    "backbone": "groupnet:GroupNet",
    "batch_size": 20,
    "epochs": 2,
    "augment": "crop",
}
NORMED = {**PLAIN, "backbone": "resnet20(widths=(4, 8, 8))", "attention": "se"}


@pytest.mark.parametrize(("images", "parts"), [(20, 2), (20, 3), (7, 3), (6, 3), (5, 3), (1, 4)])
def test_shares_make_up_a_batch_or_are_all_of_it(images, parts):
    shares = [np.arange(images)[share(images, part, parts)] for part in range(parts)]
    if images >= 2 * parts:
        assert np.concatenate(shares).tolist() == list(range(images))
        assert min(map(len, shares)) >= 2
    else:
        assert [found.tolist() for found in shares] == [list(range(images))] * parts


@pytest.mark.parametrize("room", [0, 10**9])
@pytest.mark.parametrize("parts", [2, 3, 9])
def test_each_process_makes_its_share_of_the_same_batches(data_dir, parts, room):
    spec = RunSpec(**PLAIN)
    train = load_splits(spec, data_dir).train
    whole = list(Batches(train, spec, constants(spec, train), CPU, room).epoch(1))
    for part in range(parts):
        mine = list(Batches(train, spec, constants(spec, train), CPU, room, (part, parts)).epoch(1))
        assert len(mine) == len(whole)
        for (step, images, labels), (other, others, theirs) in zip(mine, whole, strict=True):
            chosen = share(len(theirs), part, parts)
            assert step == other
            assert torch.equal(images, others[chosen])
            assert torch.equal(labels, theirs[chosen])


def test_what_the_shares_count_adds_up_to_a_batch():
    for images in range(1, 40):
        shares = [Team(rank, 3).share(images) for rank in range(3)]
        assert sum(found.weight for found in shares) == pytest.approx(1)
        assert sum(found.counted for found in shares) == (3 if images >= 6 else 1)


def torchrun(processes: int, store: Path, data_dir: Path, fields: dict[str, Any]) -> "subprocess.Popen[str]":
    flags = [f"--{name}={value}" for name, value in fields.items()]
    flags += [f"--store={store}", f"--data-dir={data_dir}", "--tracker=none"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [*command, "-m", "attnbench", "run", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"},
    )


def trained(processes: int, store: Path, data_dir: Path, fields: dict[str, Any]) -> Any:
    process = torchrun(processes, store, data_dir, fields)
    said, _ = process.communicate(timeout=HANG)
    assert process.returncode == 0, said
    assert said.count("test accuracy") == 1
    (record,) = Store(store).records()
    assert record.numerics["processes"] == processes
    return record


class Ghosts(nn.Module):
    """A network that sees a batch in the shares of several processes, one after the other."""

    def __init__(self, model: nn.Module, parts: int) -> None:
        super().__init__()
        self.model, self.parts = model, parts

    def forward(self, x: Tensor) -> Tensor:
        if len(x) < 2 * self.parts:
            return self.model(x)
        return torch.cat([self.model(x[share(len(x), part, self.parts)]) for part in range(self.parts)])


def alone(fields: dict[str, Any], data_dir: Path, parts: int) -> list[dict[str, float]]:
    """The curves of one process that shows its network the shares of several."""
    spec = RunSpec(**fields)
    splits = load_splits(spec, data_dir)
    train = Batches(splits.train, spec, constants(spec, splits.train), CPU)
    model = fresh_network(spec, splits.classes, splits.channels, splits.image_size, CPU)
    state = State.fresh(spec, model, train.steps(), CPU)
    for _ in training(spec, state, train, None, 1e9, How(Ghosts(state.model, parts))):
        pass
    return state.curves


@pytest.mark.slow
@pytest.mark.parametrize("fields", [PLAIN, NORMED], ids=["group norm", "batch norm"])
def test_the_losses_of_two_processes_are_those_of_one(fields, data_dir, tmp_path):
    record = trained(2, tmp_path, data_dir, fields)
    for point, wanted in zip(record.curves, alone(fields, data_dir, 2), strict=True):
        assert point["train_loss"] == pytest.approx(wanted["train_loss"], rel=1e-4)
        assert point["train_accuracy"] == pytest.approx(wanted["train_accuracy"], abs=2.1)  # of 96: two on the fence


@pytest.mark.slow
def test_a_run_of_two_processes_that_was_stopped_goes_on_to_the_same_bits(data_dir, tmp_path):
    fields = {**NORMED, "epochs": 60, "averaging": 0.1}
    stopped, store = torchrun(2, tmp_path / "stopped", data_dir, fields), Store(tmp_path / "stopped")
    run = RunSpec(**fields).id
    began = time.monotonic()
    while store.epochs(run) < 3 and time.monotonic() - began < HANG:
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    said, _ = stopped.communicate(timeout=HANG)
    assert store.record(run) is None, said
    runtime = Runtime(store=str(tmp_path / "stopped"), data_dir=str(data_dir), tracker="none", device="cpu")
    with pytest.raises(StoreProblem, match=r"processes 2 \(now 1\)"):
        attnbench.run(RunSpec(**fields), runtime)
    one = trained(2, tmp_path / "stopped", data_dir, fields)
    two = trained(2, tmp_path / "whole", data_dir, fields)
    assert (one.resumed, two.resumed) == (1, 0)
    assert (one.weights_sha256, one.test) == (two.weights_sha256, two.test)


@pytest.mark.slow
def test_without_batch_norm_a_run_goes_on_with_other_processes(data_dir, tmp_path):

    def stop(_spec: RunSpec, point: dict[str, float]) -> None:
        if point["epoch"] == 1:
            raise KeyboardInterrupt

    runtime = Runtime(store=str(tmp_path), data_dir=str(data_dir), tracker="none", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        attnbench.run(RunSpec(**PLAIN), runtime, log=stop)
    record = trained(2, tmp_path, data_dir, PLAIN)
    assert (record.resumed, len(record.curves)) == (1, 2)
    assert record.curves[1]["train_loss"] == pytest.approx(alone(PLAIN, data_dir, 1)[1]["train_loss"], rel=1e-4)


@pytest.mark.slow
def test_a_batch_too_small_for_its_processes_is_refused_and_a_run_of_many_is_not_reproduced_by_one(data_dir, tmp_path):
    process = torchrun(2, tmp_path / "small", data_dir, {**PLAIN, "batch_size": 3})
    said, _ = process.communicate(timeout=HANG)
    assert process.returncode != 0
    assert "batch_size: 3 leaves less than two images to each of 2 processes" in said
    record = trained(2, tmp_path / "two", data_dir, PLAIN)
    assert record.numerics["portable"] is False
    with pytest.raises(StoreProblem, match="trained by 2 processes"):
        reproduce(record.id, Runtime(store=str(tmp_path / "two"), data_dir=str(data_dir)))


@pytest.mark.parametrize(
    ("attention", "frozen", "whole"), [("none", False, True), ("none", True, False), ("bam", True, True)]
)
def test_a_frozen_batch_norm_sees_each_image_alone(attention, frozen, whole):
    model = network("resnet20(widths=(4, 8, 8))", attention, 10, image_size=8)
    assert _sees_whole_batches(RunSpec(**{**NORMED, "frozen_norm": frozen}), model) is whole


@pytest.mark.parametrize(("most", "parts"), [(20, 1), (10, 2), (4, 8), (1, 32)])
def test_a_batch_in_parts_is_the_same_step(data_dir, most, parts):
    spec = RunSpec(**PLAIN)
    splits = load_splits(spec, data_dir)
    train = Batches(splits.train, spec, constants(spec, splits.train), CPU)
    state = State.fresh(spec, fresh_network(spec, splits.classes, splits.channels, splits.image_size, CPU), 5, CPU)
    for _ in training(spec, state, train, None, 1e9, How(Hungry(state.model, most), in_parts=True)):
        pass
    assert state.parts == parts
    losses = [point["train_loss"] for point in state.curves]
    assert losses == pytest.approx([point["train_loss"] for point in alone(PLAIN, data_dir, 1)], rel=1e-4)


def test_a_network_with_batch_norm_takes_no_batch_in_parts(data_dir, tmp_path):
    runtime = Runtime(store=str(tmp_path), data_dir=str(data_dir), tracker="none", device="cpu", micro_batch="auto")
    with pytest.raises(BadSpec, match="'auto' would change what batch norm computes in resnet20"):
        attnbench.run(RunSpec(**NORMED), runtime)
    assert attnbench.run(RunSpec(**{**PLAIN, "epochs": 1}), runtime).numerics.get("micro_batches") is None
