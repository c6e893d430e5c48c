"""Devices: one file speaks of CUDA, and what must never wait for a device does not."""

import contextlib
import copy
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import handmade
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from attnbench import RunSpec, Runtime, devices
from attnbench.errors import BadSpec
from attnbench.examine.reproduce import _as_then
from attnbench.training.numerics import choose_device, records
from attnbench.training.step import take_in

SOURCE = Path(__file__).parent.parent / "src" / "attnbench"


def test_one_file_calls_cuda():
    speaking = [file.name for file in SOURCE.rglob("*.py") if "torch.cuda" in file.read_text()]
    assert speaking == ["devices.py"]


def test_a_device_that_is_named_becomes_the_current_one(monkeypatch):
    """Graphs are recorded, and random streams seeded, on the current one."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current := Mock())
    assert devices.mine(torch.device("cuda:1")) == torch.device("cuda:1")
    current.assert_called_once_with(1)
    assert devices.mine(torch.device("cuda")) == torch.device("cuda")
    monkeypatch.setattr(devices, "available", lambda: True)
    with pytest.raises(BadSpec, match="'cuda:2': torch sees 2 CUDA devices here, numbered from 0"):
        choose_device(Runtime(device="cuda:2"))


@pytest.mark.parametrize("device", ["auto:3", "cpu:x", "cuda:-1", "cuda:", "gpu"])
def test_what_is_no_device_is_refused_before_anything_is_trained(device):
    with pytest.raises(BadSpec, match=r"is not one of 'auto', 'cpu', 'cuda', 'cuda:N', 'mps'"):
        Runtime(device=device)


@pytest.mark.parametrize(
    ("attention", "recorded"),
    [
        ("chain(se, eca)", True),
        ('random(of="se")', True),
        ("minegate:Gate", False),
        ("chain(se, minegate:Gate)", False),
        ('random(of="minegate:Gate")', False),
    ],
)
def test_no_step_with_a_users_own_code_is_recorded_unless_asked_for(attention, recorded, monkeypatch):
    monkeypatch.syspath_prepend(str(Path.cwd()))
    code = ["from torch import nn", "class Gate(nn.Conv2d):", "    def __init__(self, channels):"]
    Path("minegate.py").write_text("\n".join([*code, "        super().__init__(channels, channels, 1)"]))
    spec = RunSpec(dataset="digits", attention=attention)
    assert records(spec, Runtime()) is recorded
    assert records(spec, Runtime(graphs="always"))


@pytest.mark.parametrize(
    ("trained_on", "there", "again"),
    [("cpu", True, "cpu"), ("NVIDIA H100", True, "cuda"), ("NVIDIA H100", False, "cpu"), ("mps", True, "cpu")],
)
def test_a_run_is_trained_again_on_a_device_of_its_kind_or_on_a_cpu(trained_on, there, again, monkeypatch):
    monkeypatch.setattr(devices, "available", lambda: there)
    monkeypatch.setattr(devices, "has_mps", lambda: False)
    bits = {"device": trained_on, "threads": 3, "compile": False, "micro_batches": 4}
    found = _as_then(handmade.record("se", 0, 80.0, numerics=bits), "runs", "data")
    assert (found.device, found.threads, found.compile, found.micro_batch) == (again, 3, "never", "auto")


def test_an_average_that_does_not_wait_is_that_of_torch():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    ours, theirs = (AveragedModel(model, use_buffers=True) for _ in range(2))
    for _ in range(4):
        model(torch.randn(2, 3, 8, 8)).sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        take_in(ours, copy.deepcopy(model))
        theirs.update_parameters(model)
    assert all(a.equal(b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_work_is_recorded_once_for_each_shape_and_then_replayed(monkeypatch):
    work, graphs = Mock(side_effect=lambda a, b: (a * b).sum()), list[Any]()

    class FakeGraph:
        """Of a recording, what it is asked to do: a replay computes anew from the tensors that were recorded."""

        def __init__(self) -> None:
            graphs.append(self)
            self.replays = 0

        def pool(self) -> str:
            return "pool"

        def replay(self) -> None:
            self.replays += 1
            ((taken, result),) = [rest for graph, *rest in recorded._recordings.values() if graph is self]
            result.copy_((taken[0] * taken[1]).sum())

    def record(graph: object, pool: object, capture_error_mode: str) -> contextlib.nullcontext[None]:
        assert pool == ("pool" if len(graphs) > 1 else None)
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    recorded = devices.Recorded(work)
    given = [torch.rand(size) for size in [3] * 5 + [2] * 6 + [3] * 2]
    assert [float(recorded(one, 2 * one)) for one in given] == [float((one * 2 * one).sum()) for one in given]
    assert work.call_count == 2 * (devices.Recorded.EAGER + 1)
    assert [graph.replays for graph in graphs] == [4, 3]
