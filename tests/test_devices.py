"""Devices: one file speaks of CUDA, and what must never wait for a device does not."""

import ast
import contextlib
import copy
import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import handmade
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

import attnbench
from attnbench import RunSpec, Runtime, devices, maps
from attnbench.data.batches import Batches
from attnbench.data.placed import AHEAD, ahead
from attnbench.data.splits import constants, load_splits
from attnbench.errors import BadSpec
from attnbench.examine.reproduce import _as_then
from attnbench.networks.network import fresh_network
from attnbench.training.numerics import STEPS_TO_PAY, choose_device, compiles, records
from attnbench.training.state import State
from attnbench.training.step import How, Steps, autocast, take_in

SOURCE = Path(__file__).parent.parent / "src" / "attnbench"
CPU, CARD = torch.device("cpu"), torch.device("cuda")
TINY = {"dataset": "stripes:stripes", "backbone": "resnet20(widths=(4, 8, 8))", "batch_size": 16, "epochs": 1}


def named(file: Path) -> set[str]:
    """What a file says of CUDA outside of its comments and docstrings: names, attributes, and texts but messages."""
    tree = ast.parse(file.read_text())
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = [str(text.value) for text in texts if id(text) not in told and " " not in str(text.value)]
    found += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    found += [
        name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import) for name in node.names
    ]
    return {name for name in found if "cuda" in name.lower() or "cudnn" in name}


def test_one_file_calls_cuda():
    naming = {file.relative_to(SOURCE).as_posix(): named(file) for file in SOURCE.rglob("*.py")}
    assert naming.pop("devices.py")
    assert naming.pop("spec/run.py") == {"cuda", r"auto|cpu|mps|cuda(:\d+)?"}  # the words that users type
    assert naming.pop("execution/local.py") == {"CUDA_VISIBLE_DEVICES"}  # in a process that does not load torch
    assert {file: names for file, names in naming.items() if names} == {}


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A CPU that is taken for a card; the list says what it was asked to do, in order."""
    done: list[str] = []

    class Event:
        def __init__(self, blocking: bool) -> None:
            assert blocking, "a thread that waits must not spin"

        def record(self, _stream: object) -> None:
            done.append("marked")

        def synchronize(self) -> None:
            assert threading.current_thread() is not threading.main_thread()

    class Stream:
        def record_event(self) -> str:
            done.append("sent")
            return f"batch {done.count('sent')}"

        def wait_event(self, event: str) -> None:
            assert threading.current_thread() is threading.main_thread()
            done.append(f"waits for {event}")

    def pinned(tensor: Tensor) -> Tensor:
        assert threading.current_thread() is not threading.main_thread()
        done.append("pinned")
        return tensor

    def to(tensor: Tensor, device: object, *rest: Any, non_blocking: bool = False, **more: Any) -> Tensor:
        assert rest or non_blocking, "a copy that the processor waits for"
        return tensor.to(*rest, **more) if rest else tensor

    monkeypatch.setattr(devices, "on_card", lambda _device: True)
    monkeypatch.setattr(devices, "mine", lambda device: device)
    monkeypatch.setattr(devices, "_copying", lambda _device: Stream())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: Stream())
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _tensor, _stream: done.append("kept"))
    monkeypatch.setattr(torch.Tensor, "to", to)
    return done


def test_batches_are_sent_from_pinned_memory_on_a_stream_of_their_own(card):
    made = [(torch.full((2, 3), n, dtype=torch.uint8), torch.tensor([n, n])) for n in range(5)]
    found = []
    for batch in ahead(iter(made), CARD):
        found.append(batch)
        assert card.count("sent") <= len(found) + AHEAD
    assert all(a.equal(c) and b.equal(d) for (a, b), (c, d) in zip(found, made, strict=True))
    assert [word for word in card if word.startswith("waits")] == [f"waits for batch {n}" for n in (1, 2, 3, 4, 5)]
    assert (card.count("pinned"), card.count("kept"), card.count("marked")) == (10, 10, 6)
    assert card.index("waits for batch 1") > card.index("sent")


def test_a_sender_to_a_cpu_hands_over_what_it_was_given():
    images, labels = devices.Sender(CPU).send(given := np.arange(6, dtype=np.uint8), np.arange(2))()
    assert images.tolist() == given.tolist()
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("asked", "device", "has_bf16", "computed"),
    [
        ("fp16", CPU, True, "fp32"),
        ("bf16", CPU, True, "fp32"),
        ("fp32", CARD, True, "fp32"),
        ("fp16", CARD, True, "fp16"),
        ("bf16", CARD, True, "bf16"),
        ("bf16", CARD, False, "fp16"),
    ],
)
@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
def test_half_precision_is_what_the_device_has(asked, device, has_bf16, computed, monkeypatch):
    """fp16 with scaled gradients in place of a bf16 that the card would emulate; autocast and the record agree."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 or including_emulation)
    assert devices.precision(asked, device) == computed
    with mock_autocast(monkeypatch) as asked_for:
        autocast(RunSpec(dataset="digits", precision=asked), device)
    kinds = {"fp16": torch.float16, "bf16": torch.bfloat16}
    assert asked_for == {"enabled": computed != "fp32", "dtype": kinds.get(computed, asked_for["dtype"])}


@contextlib.contextmanager
def mock_autocast(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What autocast was asked for: it looks for a card by itself."""
    found: dict[str, Any] = {}
    with monkeypatch.context() as patched:
        patched.setattr(torch, "autocast", lambda _device, **asked: found.update(asked))
        yield found


def test_a_run_is_compiled_where_it_is_long_enough_to_pay_for_it():
    """On a card from so many steps on, counted over all epochs; `always` and `never` do not count."""
    spec = RunSpec(dataset="digits", batch_size=100, epochs=50)
    enough = STEPS_TO_PAY * spec.batch_size // spec.epochs
    asked = {
        (how, device.type, images): compiles(spec, Runtime(compile=how, numerics="native"), device, images)
        for how in ("auto", "always", "never")
        for device in (CPU, CARD)
        for images in (enough - 1, enough)
    }
    compiled = {case for case, found in asked.items() if found}
    assert compiled == {("auto", "cuda", enough), *(case for case in asked if case[0] == "always")}


def test_a_compiled_run_trains_and_says_so(data_dir, monkeypatch):
    """With the step's graph as torch records it, run as it is: code generation asks for a compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    found = {}
    for how in ("always", "never"):
        runtime = Runtime(
            compile=how, store=how, data_dir=str(data_dir), tracker="none", device="cpu", numerics="native"
        )
        found[how] = attnbench.run(RunSpec(**TINY, attention="se"), runtime)
    assert [found[how].numerics["compile"] for how in ("always", "never")] == [True, False]
    losses = [found[how].curves[0]["train_loss"] for how in ("always", "never")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


class Unwaiting(TorchDispatchMode):
    """Fails where a tensor's value is asked for, for which the processor would wait on a card."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")
        assert not any(word in str(func) for word in waits), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


def stepping(data_dir: Path, room: int, **fields: object) -> tuple[Batches, State, Steps]:
    """The batches of a run, its state, and its steps as on a card: no loss is looked at between two."""
    asked = RunSpec(**{**TINY, "attention": "cbam", "augment": "crop+flip", **fields})
    splits = load_splits(asked, data_dir)
    train = Batches(splits.train, asked, constants(asked, splits.train), CPU, room)
    model = fresh_network(asked, splits.classes, splits.channels, splits.image_size, CPU)
    state = State.fresh(asked, model, train.steps(), CPU)
    return train, state, Steps(asked, state, How(), len(train.split), train.steps(), CPU)


@pytest.mark.parametrize("room", [0, 10**9])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_no_step_asks_for_a_value_of_a_tensor(optimizer, room, data_dir):
    """What a card's processor would wait for; the same on a card by torch's own means (`test_gpu.py`)."""
    train, state, steps = stepping(data_dir, room, optimizer=optimizer, progressive=0.5, epochs=2)
    before = copy.deepcopy(state.model.state_dict())
    for epoch in (0, 1):
        with Unwaiting():
            for step, images, labels in train.epoch(epoch):
                steps.take(step, images, labels)
    assert not all(value.equal(before[name]) for name, value in state.model.state_dict().items())
    with pytest.raises(AssertionError, match="waits for the device"), Unwaiting():
        float(state.losses[0])


def test_a_network_lies_in_memory_as_its_images_do(data_dir):
    _, state, _ = stepping(data_dir, 0)
    assert all(
        value.is_contiguous(memory_format=torch.channels_last) for value in state.model.parameters() if value.ndim == 4
    )


@pytest.mark.parametrize(
    ("problem", "falls_back"), [(torch.OutOfMemoryError("CUDA out of memory"), True), (RuntimeError("x"), False)]
)
def test_images_for_which_there_is_no_room_after_all_stay_where_they_are(problem, falls_back, data_dir, monkeypatch):
    """Another process may have taken the memory that was free a moment ago."""
    train, _, _ = stepping(data_dir, 10**9)
    here, _, _ = stepping(data_dir, 0)
    monkeypatch.setattr("attnbench.data.batches.Placed", Mock(side_effect=problem))
    if falls_back:
        assert [images.tolist() for images, _ in train.plain(16)] == [images.tolist() for images, _ in here.plain(16)]
    else:
        with pytest.raises(RuntimeError, match="x"):
            next(train.plain(16))


def operations(work: Any, device: str) -> list[str]:
    """The operations of torch that some work on maps B C H W starts on a device, which need not be here."""
    started: list[str] = []

    class Listening(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            started.append(str(func.overloadpacket).removeprefix("aten."))
            return func(*args, **(kwargs or {}))

    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(2, 4, 8, 8, device=device).to(memory_format=torch.channels_last)
        with Listening():
            work(x)
    return started


def test_maps_are_computed_as_suits_their_device():
    """Few kernels on a card, little memory on a CPU; and no average of channels-last maps with padding on a card."""
    mean = functools.partial(maps.mean, dim=(2, 3))
    assert "mean" in operations(mean, "cuda")
    assert "sum" in operations(mean, "cpu")
    gates = {device: operations(lambda x: maps.gated(x, x[:, :, :1, :1]), device) for device in ("cpu", "cuda")}
    assert gates["cuda"].count("mul") == 1
    pooled = {device: operations(lambda x: maps.avg_pool(x, 3, 1, 1), device) for device in ("cpu", "cuda")}
    assert pooled["cuda"].index("clone") < pooled["cuda"].index("avg_pool2d")
    assert "clone" not in pooled["cpu"]


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
