"""On a CUDA device: each mechanism and backbone, runs that repeat and resume to the bit, no waiting, no leaks.

The bodies take a device; those that are cheap run on the CPU too, so that they are known to be right.
"""

import contextlib
import copy
import gc
import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch import Tensor, nn

import attnbench
from attnbench import RunSpec, Runtime, Store, network
from attnbench.backbones.convnext import _Block
from attnbench.catalogue import registry
from attnbench.data.batches import Batches
from attnbench.data.splits import constants, load_splits
from attnbench.examine.promises import Subject
from attnbench.networks.network import fresh_network
from attnbench.networks.weights import weights_digest
from attnbench.seeding import seeded
from attnbench.store import mlflow as tracking
from attnbench.store.runs import RunRecord
from attnbench.training import run as runner
from attnbench.training.loop import predict, training
from attnbench.training.numerics import numerics
from attnbench.training.state import State
from attnbench.training.step import How

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first handle of cuBLAS

TINY = {
    "dataset": "stripes:stripes",
    "backbone": "resnet20(widths=(4, 8, 8))",
    "attention": "se",
    "batch_size": 16,
    "epochs": 2,
    "augment": "crop+flip",
}
CLOSE = 1e-3
"""How far a CUDA device may be from a CPU in float32: the norm of the difference over the norm."""
SAME = 1e-5
"""The same in float64, where no rounding looks like a mistake: in float32 a backbone's gradients differ by 1 %."""
NAMES = [entry.name for entry in registry.ATTENTION if entry.builtin]
QUICK = ("se", "cbam", "nl", "bot on 6 x 6")
"""Mechanisms whose tests run on the CPU too."""
BACKBONES = {
    "resnet20": "resnet20",
    "resnet18": 'resnet18(stem="cifar")',
    "preact": "preact_resnet20",
    "wrn": "wrn(depth=10, widen=2)",
    "vgg": "vgg",
    "densenet": "densenet",
    "mobilenet": 'mobilenet_v2(stem="cifar")',
    "convnext": 'convnext_tiny(stem="cifar")',
    "speednet": "speednet",
    "resnext": "resnext29",
    "torchvision": 'torchvision(name="resnet18")',
}
SUBJECTS = [*NAMES, "ge(extent=4)", *BACKBONES]
ON_OTHER_MAPS = {"aa on 6 x 6": "aa", "bot on 6 x 6": "bot"}
"""Mechanisms with a table for each map, on another one than they were built for."""
OTHERS = [
    entry.name
    for entry in registry.BACKBONES
    if entry.builtin and entry.name not in {*BACKBONES, *BACKBONES.values(), "timm"}
]
"""The other depths of the backbones, and those of the same blocks."""


def on(name: str, *values: object) -> Any:
    """One case on one device, which is marked if it is a GPU."""
    return pytest.param(
        *values, name, id="-".join(map(str, (*values, name))), marks=[pytest.mark.gpu] * (name != "cpu")
    )


EACH = pytest.mark.parametrize("device", [on("cpu"), on("cuda")], indirect=True)
GPU = pytest.mark.parametrize("device", [on("cuda")], indirect=True)


def of_each(*names: str) -> pytest.MarkDecorator:
    """These on a card, and the quick ones on a CPU too."""
    cases = [*(on("cpu", name) for name in QUICK), *(on("cuda", name) for name in names)]
    return pytest.mark.parametrize(("name", "device"), cases, indirect=["device"])


EVERY = of_each(*SUBJECTS, *ON_OTHER_MAPS)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device by its name; settings are put back afterwards."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield torch.device(request.param)
    torch.use_deterministic_algorithms(before[0])
    torch.set_num_threads(before[1])


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """float32 is float32, and not TF32; torch's defaults come back afterwards."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True


def subject(name: str) -> tuple[nn.Module, Tensor]:
    """A mechanism with weights that hide nothing, or a plain backbone; and its input (B C H W)."""
    generator = torch.Generator().manual_seed(1)
    if name in BACKBONES or name in OTHERS:
        plain = network(BACKBONES.get(name, name), "none", 10, image_size=32)
        return plain, torch.randn(4, 3, 32, 32, generator=generator)
    module = Subject(ON_OTHER_MAPS.get(name, name)).redrawn(32, (8, 8))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.3)  # so that no softmax has one winner
    side = 6 if name in ON_OTHER_MAPS else 8
    return module, torch.randn(4, 32, side, side, generator=generator)


def computed(module: nn.Module, x: Tensor, device: torch.device, half: bool = False) -> dict[str, Tensor]:
    """The output and every gradient of one step in training, on the CPU; drop-out sleeps."""
    module = copy.deepcopy(module).to(device).to(memory_format=torch.channels_last).train()
    x = x.to(device, memory_format=torch.channels_last).requires_grad_()
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        if isinstance(part, _Block):
            part.drop_path = 0.0
    awake = mock.patch("torch.nn.functional.dropout", lambda x, *_: x)
    with awake, seeded(0, "step"), torch.autocast(device.type, torch.bfloat16, enabled=half):
        out = module(x)
        (out.float() * torch.linspace(-1, 1, out.numel(), device=device).view(out.shape)).sum().backward()
    found = {"output": out, "gradient of the input": x.grad}
    found |= {f"gradient of {path}": p.grad for path, p in module.named_parameters()}
    return {what: value.detach().cpu() for what, value in found.items() if value is not None}


def distance(one: Tensor, other: Tensor, least: float = 1e-6) -> float:
    """The norm of the difference over the larger norm, or over `least`."""
    scale = max(float(one.double().norm()), float(other.double().norm()), least)
    return float((one.double() - other.double()).norm()) / scale


def spec(**fields: Any) -> RunSpec:
    return RunSpec(**{**TINY, **fields})


def parts(
    asked: RunSpec, device: torch.device, data_dir: Path, kind: type[Batches] = Batches, room: int | None = None
) -> tuple[Batches, State]:
    """The training batches of a run, and the state before its first step."""
    splits = load_splits(asked, data_dir)
    train = kind(splits.train, asked, constants(asked, splits.train), device, room)
    model = fresh_network(asked, splits.classes, splits.channels, splits.image_size, device)
    return train, State.fresh(asked, model, train.steps(), device)


def run(asked: RunSpec, device: torch.device, data_dir: Path, store: str = "runs", **more: Any) -> RunRecord:
    runtime = Runtime(device=device.type, data_dir=str(data_dir), store=store, tracker="none")
    return attnbench.run(asked, runtime, **more)


def bits(record: RunRecord) -> tuple[object, ...]:
    """What two runs of one spec must agree in."""
    curves = [{k: v for k, v in point.items() if "seconds" not in k} for point in record.curves]
    return record.weights_sha256, record.test, curves


@EACH
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_two_runs_of_one_spec_give_the_same_bits(precision, device, data_dir):
    asked = spec(precision=precision, averaging=0.5, tta="flip", progressive=0.5)
    one, two = (run(asked, device, data_dir, store) for store in ("one", "two"))
    assert bits(one) == bits(two)
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name()
    assert (one.numerics["device"], one.status) == (name, "done")


@EACH
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(precision, device, data_dir):
    def stop(_spec: RunSpec, point: dict[str, float]) -> None:
        if point["epoch"] == 1:
            raise KeyboardInterrupt

    asked = spec(precision=precision, averaging=0.5)
    with contextlib.suppress(KeyboardInterrupt):
        run(asked, device, data_dir, log=stop)
    stopped = run(asked, device, data_dir)
    assert stopped.resumed == 1
    assert bits(stopped) == bits(run(asked, device, data_dir, "whole"))


@EACH
def test_a_run_goes_on_inside_an_epoch_to_the_same_bits(device, data_dir, tmp_path):
    asked = spec(precision="fp16", averaging=0.5)
    with numerics(asked, Runtime(device=device.type), device):
        train, whole = parts(asked, device, data_dir)
        for _ in training(asked, whole, train, None, 1e9):
            pass
        train, state = parts(asked, device, data_dir)
        for pause in training(asked, state, train, None, 0):  # a pause after every step
            if (pause.state.epoch, pause.state.step) == (1, 2):
                break
        torch.save(state.to_dict(), tmp_path / "saved")
        train, state = parts(asked, device, data_dir)
        state.restore(torch.load(tmp_path / "saved", weights_only=True))
        for _ in training(asked, state, train, None, 1e9):
            pass
    assert weights_digest(state.tested.state_dict()) == weights_digest(whole.tested.state_dict())


@EACH
def test_the_first_losses_are_those_of_a_cpu(device, data_dir):
    asked = spec(precision="fp32")
    losses = []
    for place in (device, torch.device("cpu")):
        with numerics(asked, Runtime(device=place.type), place):
            train, state = parts(asked, place, data_dir)
            pauses = training(asked, state, train, None, 0)
            losses.append([float(next(pauses).state.losses[step]) for step in range(4)])
    assert losses[0] == pytest.approx(losses[1], rel=CLOSE)


def trained(asked, device, data_dir, recorded):
    """The hash of the weights after training, and the loss of every epoch."""
    with numerics(asked, Runtime(device="cuda"), device):
        train, state = parts(asked, device, data_dir)
        for _ in training(asked, state, train, None, 1e9, How(recorded=recorded)):
            pass
    return weights_digest(state.model.state_dict()), [point["train_loss"] for point in state.curves]


@pytest.mark.parametrize("device", [on("cuda")], indirect=True)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_recorded_steps_that_thaw_give_the_bits_of_the_same_steps_unrecorded(optimizer, device, data_dir):
    protocol = {"freeze": "backbone", "freeze_epochs": 2, "backbone_lr": 0.5, "head_lr": 2.0, "layer_decay": 0.8}
    asked = spec(backbone="resnet20(widths=(32, 32, 32))", epochs=4, batch_size=8, optimizer=optimizer, **protocol)
    assert trained(asked, device, data_dir, recorded=False) == trained(asked, device, data_dir, recorded=True)


ROOM = pytest.mark.parametrize("room", [10**9, 0], ids=["placed", "sent ahead"])


@EACH
@ROOM
def test_batches_are_those_of_a_cpu(room, device, data_dir):
    """Augmented where they lie on the device, and sent ahead where they do not fit: the same images, to the bit."""
    asked = spec(augment="crop+flip+cutout", progressive=0.5)
    there, here = (parts(asked, place, data_dir, room=room)[0] for place in (device, torch.device("cpu")))
    for epoch in (0, 1):
        for (_, images, labels), (_, expected, right) in zip(there.epoch(epoch), here.epoch(epoch), strict=True):
            assert images.cpu().equal(expected)
            assert labels.cpu().equal(right)
    assert all(a.cpu().equal(b) for (_, a), (_, b) in zip(there.plain(7), here.plain(7), strict=True))


class Unwaiting(Batches):
    """Batches whose steps, after three epochs in which libraries are loaded, must not wait for the device."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
        torch.cuda.set_sync_debug_mode("error" if epoch > 2 else "default")
        try:
            yield from super().epoch(epoch, first)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@GPU
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@ROOM
@pytest.mark.parametrize("recorded", [False, True], ids=["as written", "recorded"])
@pytest.mark.parametrize(
    "fields",
    [
        {"precision": "fp32"},
        {"precision": "fp16", "averaging": 0.9},
        {"precision": "bf16", "optimizer": "sgd"},
        {"precision": "fp16", "optimizer": "sgd"},
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_no_step_waits_for_the_device(fields, recorded, room, device, data_dir):
    asked = spec(**fields, progressive=0.2, epochs=5)
    with numerics(asked, Runtime(device="cuda"), device):
        train, state = parts(asked, device, data_dir, Unwaiting, room)
        for _ in training(asked, state, train, None, 1e9, How(recorded=recorded)):
            pass
    assert state.epoch == 5


@GPU
def test_memory_is_given_back_between_runs(device, data_dir):
    mebibyte, held = 2**20, []
    for number in range(3):
        run(spec(seed=number, precision="bf16"), device, data_dir)
        gc.collect()
        held.append((torch.cuda.memory_allocated() / mebibyte, torch.cuda.memory_reserved() / mebibyte))
    assert held[2][0] <= held[0][0] + 1, f"MiB allocated and reserved after each run: {held}"
    assert held[2][1] <= held[0][1] + 4, f"MiB allocated and reserved after each run: {held}"


class Hungry(nn.Module):
    """A network that asks for more memory than there is anywhere, for more than `most` images at a time."""

    def __init__(self, inner: nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most = inner, most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            torch.empty(2**50, dtype=torch.uint8, device=x.device)
        return self.inner(x)


@EACH
def test_an_evaluation_without_memory_goes_on_with_half_the_batch(device, data_dir):
    asked = spec(precision="fp32")
    train, state = parts(asked, device, data_dir)
    whole, halved = predict(state.model, train), predict(Hungry(state.model, 5), train)
    assert (whole.batch_size, halved.batch_size) == (16, 4)
    assert distance(halved.logits, whole.logits) < CLOSE
    assert halved.labels.tolist() == whole.labels.tolist()


@pytest.fixture
def classic(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """run_experiment.py inside this process, without MLflow."""
    found = importlib.util.spec_from_file_location("run_experiment", ROOT / "run_experiment.py")
    assert found is not None
    assert found.loader is not None
    script: ModuleType = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    for module in (tracking, runner):
        monkeypatch.setattr(module, "mirrored", lambda *_, **__: contextlib.nullcontext())
    main: Callable[[list[str]], None] = script.main
    return main


@EACH
def test_the_classic_command_trains_and_its_run_is_evaluated(device, classic, tmp_path, capsys):
    from attnbench.cli import main

    draws = np.random.default_rng(0)
    for folder in (tmp_path / part / name for part in ("train", "test") for name in ("a", "b")):
        folder.mkdir(parents=True)
        for number in range(16):
            Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{number}.png")
    data = f'imagefolder(path="{tmp_path}/train", test="{tmp_path}/test")'
    flags = {"dataset": data, "attention_type": "se", "epochs": 1, "batch_size": 8, "image_size": 8}
    classic([*(f"--{name}={value}" for name, value in flags.items()), f"--device={device.type}"])
    (record,) = Store("runs").records()
    assert f"FINAL TEST ACCURACY: {record.accuracy:.2f}%" in capsys.readouterr().out
    assert record.numerics["device"] == ("cpu" if device.type == "cpu" else torch.cuda.get_device_name())
    with contextlib.suppress(SystemExit):
        main(["evaluate", record.id, "--gate", "mean", "--device", device.type])
    assert "mean" in capsys.readouterr().out


# Of every mechanism and backbone: last, since they are many, and the time on a card is short


@EVERY
def test_computes_on_a_device_what_it_computes_on_a_cpu(name, device):
    module, x = (value.double() for value in subject(name))
    there, here = computed(module, x, device), computed(module, x, torch.device("cpu"))
    largest = max(float(value.norm()) for what, value in here.items() if what.startswith("gradient"))
    far = {what: distance(there[what], value, 1e-6 * largest) for what, value in here.items()}
    assert {what: value for what, value in far.items() if not value < SAME} == {}


@EVERY
def test_gives_in_float32_what_a_cpu_gives(name, device):
    module, x = subject(name)
    with exact():
        there, here = (computed(module, x, place)["output"] for place in (device, torch.device("cpu")))
    assert distance(there, here) < CLOSE


@of_each(*SUBJECTS, *ON_OTHER_MAPS, *OTHERS)
def test_repeats_itself_to_the_bit_with_deterministic_algorithms(name, device):
    """What has no deterministic form raises; the card of a mechanism that has none would say so (`determinism`)."""
    module, x = subject(name)
    torch.use_deterministic_algorithms(True)
    one, two = computed(module, x, device), computed(module, x, device)
    assert [what for what, value in one.items() if not torch.equal(value, two[what])] == []


@EVERY
def test_is_finite_in_bfloat16(name, device):
    module, x = subject(name)
    found = computed(module, x, device, half=True)
    assert [what for what, value in found.items() if not value.isfinite().all()] == []


@pytest.mark.parametrize(("name", "device"), [on("cuda", name) for name in SUBJECTS], indirect=["device"])
def test_recorded_steps_give_the_bits_of_the_same_steps_unrecorded(name, device, data_dir):
    backbone, attention = (BACKBONES[name], "none") if name in BACKBONES else ("resnet20(widths=(32, 32, 32))", name)
    asked = spec(backbone=backbone, attention=attention, image_size=32, precision="bf16", epochs=3)
    assert trained(asked, device, data_dir, recorded=False) == trained(asked, device, data_dir, recorded=True)
