"""Training steps on a CUDA device: ours, a plain loop's and timm's, in bfloat16 and channels last, on ready batches."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from baselines import Step, textbook
from torch import Tensor, nn

from attnbench.data.batches import Batches
from attnbench.data.splits import Split, constants, load_splits
from attnbench.networks.network import fresh_network
from attnbench.spec.recipes import preset
from attnbench.spec.run import RunSpec, Runtime
from attnbench.training.loop import training
from attnbench.training.numerics import numerics
from attnbench.training.state import State
from attnbench.training.step import How

CLASSES, TESTED = 10, 64
Kind = TypeVar("Kind", bound=Batches)


def pixels(root: Path, split: str, count: int = 2560, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A data set of noise: uint8 N S S 3 and labels N; time does not depend on what images show."""
    rng = np.random.default_rng(split == "test")
    size = TESTED if split == "test" else count
    return rng.integers(0, 256, (size, side, side, 3), np.uint8), np.arange(size) % CLASSES


@dataclass(frozen=True)
class Bench:
    """What is trained: a network, a batch, and how many steps of it are one measurement."""

    backbone: str
    batch: int
    side: int = 32
    steps: int = 20
    device: str = "cuda"

    @property
    def title(self) -> str:
        """The bench in words."""
        name = "ResNet-50" if "50" in self.backbone else "ResNet-18" if "18" in self.backbone else self.backbone
        return f"{name}, {self.side} px, batch {self.batch}"

    @property
    def images(self) -> int:
        """Images of one measurement."""
        return self.batch * self.steps

    def spec(self, attention: str = "none", **fields: Any) -> RunSpec:
        """A run on noise, by the standard recipe in bfloat16, with the quickest algorithms."""
        given = {
            "dataset": f"gpu_steps:pixels(count={self.images}, side={self.side})",
            "backbone": self.backbone,
            "attention": attention,
            "batch_size": self.batch,
            "epochs": 10**6,
            "schedule": "constant",
            "lr": 1e-3,
            "precision": "bf16",
            "deterministic": False,
            "augment": "none",
        }
        return RunSpec(**{**preset("standard"), **given, **fields})


class Ready(Batches):
    """One batch that lies on the device, given again and again: a loop over it has no data to make."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The same batch for every step: (step, B C H W, B)."""
        for step in range(first, self.steps()):
            yield step, *self.one

    @functools.cached_property
    def one(self) -> tuple[Tensor, Tensor]:
        """The first batch of the first epoch, kept."""
        _, images, labels = next(super().epoch(0))
        return images.clone(memory_format=torch.preserve_format), labels.clone()


class Ahead(Batches):
    """Batches as of a split for which the device has no room: made by the CPU, and sent ahead."""

    def __init__(self, split: Split, spec: RunSpec, norm: Any, device: torch.device) -> None:
        super().__init__(split, spec, norm, device, room=0)


class Settings(NamedTuple):
    """What torch holds for the whole process and things that are measured in turn must not take from each other."""

    benchmark: bool
    """Whether cuDNN tries its algorithms."""
    deterministic: bool
    threads: int

    @classmethod
    def now(cls) -> "Settings":
        """As they are."""
        deterministic = torch.are_deterministic_algorithms_enabled()
        return cls(torch.backends.cudnn.benchmark, deterministic, torch.get_num_threads())

    def set(self) -> None:
        """Make them so."""
        torch.backends.cudnn.benchmark = self.benchmark
        torch.use_deterministic_algorithms(self.deterministic)
        torch.set_num_threads(self.threads)


PLAIN = Settings(benchmark=True, deterministic=False, threads=1)
"""Of a plain loop that is written for speed."""


def under(settings: Settings, thing: Step) -> Step:
    """The same thing under its own settings."""

    def once() -> None:
        settings.set()
        thing()

    return once


def clock(device: str = "cuda") -> float:
    """Seconds since some moment, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def batches(spec: RunSpec, device: torch.device, kind: type[Kind]) -> Kind:
    """The training batches of a run, from the data folder that the environment names."""
    train = _train(spec.dataset)
    return kind(train, spec, constants(spec, train), device)


@functools.cache
def _train(dataset: str) -> Split:
    return load_splits(RunSpec(dataset=dataset), Runtime().data_dir).train


def our_epoch(
    bench: Bench,
    attention: str = "none",
    kind: type[Batches] = Ready,
    compiled: bool = False,
    recorded: bool = True,
    **fields: Any,
) -> Step:
    """Our training loop for one epoch of the bench, with or without compiling and recording: each call is an epoch."""
    spec, device = bench.spec(attention, **fields), torch.device(bench.device)
    train = batches(spec, device, kind)
    with numerics(spec, Runtime(device=bench.device), device):
        settings = Settings.now()
    model = fresh_network(spec, CLASSES, 3, bench.side, device)
    state = State.fresh(spec, model, train.steps(), device)
    forward: Any = torch.compile(state.model) if compiled else None
    pauses = training(spec, state, train, None, 1e9, How(forward, recorded))
    return under(settings, lambda: next(pauses))


def ready(bench: Bench) -> tuple[Tensor, Tensor]:
    """Images B C H W in channels-last memory and labels B, on the device."""
    return batches(bench.spec(), torch.device(bench.device), Ready).one


def plain_epoch(bench: Bench, model: nn.Module, compiled: bool = False) -> Step:
    """As many steps of a plain loop that is written for speed: autocast, channels last, fused SGD, no waiting."""
    images, labels = ready(bench)
    model = model.to(bench.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    updates = torch.optim.SGD(model.parameters(), 1e-3, 0.9, weight_decay=5e-4, nesterov=True, fused=True)
    forward: Callable[[Tensor], Tensor] = torch.compile(model) if compiled else model

    def epoch() -> None:
        for _ in range(bench.steps):
            with torch.autocast(bench.device, torch.bfloat16):
                loss = F.cross_entropy(forward(images), labels)
            loss.backward()
            updates.step()
            updates.zero_grad(set_to_none=True)

    return under(PLAIN, epoch)


def textbook_net(bench: Bench, attention: str) -> nn.Module:
    """The plain network with the textbook module."""
    return textbook(bench.backbone, attention, CLASSES, bench.side)


def timm_net(bench: Bench, attention: str) -> nn.Module:
    """timm's ResNet of the bench with timm's own module in every block; for none the network of all others here."""
    if attention == "none":
        return textbook_net(bench, "none")
    import timm

    name = "resnet50" if "50" in bench.backbone else "resnet18"
    model: nn.Module = timm.create_model(name, num_classes=CLASSES, block_args={"attn_layer": attention})
    if 'stem="cifar"' in bench.backbone:
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return model


def timm_epoch(bench: Bench, model: nn.Module, compiled: bool = False) -> Step:
    """As many steps of timm's training script, from its own parts; its meter waits for the loss at the end alone."""
    from timm.optim import create_optimizer_v2
    from timm.task import ClassificationTask
    from timm.utils import AverageMeter

    images, labels = ready(bench)
    model = model.to(bench.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    updates = create_optimizer_v2(model, opt="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4)
    forward = torch.compile(model) if compiled else model
    task, meter = ClassificationTask(forward, nn.CrossEntropyLoss(), verbose=False), AverageMeter()
    task.train()

    def epoch() -> None:
        for _ in range(bench.steps):
            with torch.autocast(bench.device, torch.bfloat16):
                loss = task(images, labels)["loss"]
            loss.backward()
            updates.step()
            updates.zero_grad()
        meter.update(loss.item(), len(images))

    return under(PLAIN, epoch)
