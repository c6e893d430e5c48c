"""P1 to P4: the step, the loop around it, mechanisms, and data."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from baselines import classic_step, convolutions, pil_batches, textbook, timm_step
from paired import Paired, Ratio
from torch import Tensor

from attnbench.cost import kept_for_backward
from attnbench.data.batches import Batches
from attnbench.data.splits import Split
from attnbench.models import network
from attnbench.numerics import keep_pages
from attnbench.optim import optimizer
from attnbench.recipes import preset
from attnbench.spec import RunSpec
from attnbench.train import State, training

SIDE = 32
STEP_GOALS = {"resnet20": 1.20, 'resnet18(stem="cifar")': 1.07}
LOOP_GOALS = {"resnet20": 0.85, 'resnet18(stem="cifar")': 0.90}
BATCH = {"resnet20": 32, 'resnet18(stem="cifar")': 16}
COSTS = {"se": 1.04, "eca": 1.04, "cbam": 1.15}
KEPT = {"se": 1.15, "cbam": 1.25}
OTHERS = ("bam", "coord", "triplet", "simam", "gc", "srm", "gct")
STEPS = 6
"""Steps of an epoch of the measured loop."""


def rows(quick: bool) -> Iterator[tuple[Any, ...]]:
    """Goal, what, wanted, whether more is better, and the figure."""
    torch.set_num_threads(1)
    keep_pages()  # as in every run of ours; the baselines run with it too
    rounds = 6 if quick else 15
    backbones = ["resnet20"] if quick else list(STEP_GOALS)
    for backbone in backbones:
        yield from _steps(backbone, rounds)
    for backbone in backbones:
        yield from _loop(backbone, rounds)
    yield from _mechanisms(("se", "eca", "cbam") if quick else (*COSTS, *OTHERS), rounds)
    yield from _data(rounds)


def _row(goal: str, what: str, wanted: float | None, more: bool, found: Ratio) -> tuple[Any, ...]:
    return goal, what, wanted, more, found.value, found.low, found.high, found.rounds


def _spec(backbone: str, attention: str = "none", **fields: Any) -> RunSpec:
    given = {"backbone": backbone, "attention": attention, "batch_size": BATCH.get(backbone, 32), **fields}
    return RunSpec(**{**preset("classic"), "dataset": "CIFAR10", "image_size": SIDE, **given})


def _batch(size: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, SIDE, SIDE, generator=draws), torch.randint(10, (size,), generator=draws)


def _steps(backbone: str, rounds: int) -> Iterator[tuple[Any, ...]]:
    """P1."""
    images, labels = _batch(BATCH[backbone])
    for attention in ("none", "se", "cbam"):
        things = {
            "classic": classic_step(textbook(backbone, attention), images, labels),
            "timm": timm_step(textbook(backbone, attention), images, labels),
            "ours": ours_step(_spec(backbone, attention), images, labels),
        }
        took = Paired(things, rounds)
        what = f"{backbone} with {attention}, a step: %s / ours"
        yield _row("P1", what % "classic loop", STEP_GOALS[backbone], True, took.ratio("classic", "ours"))
        if backbone == "resnet20":
            yield _row("P1", what % "timm's step", 1.15, True, took.ratio("timm", "ours"))


def ours_step(spec: RunSpec, images: Tensor, labels: Tensor) -> Any:
    """A bare step with what our loop steps with: channels last, our modules, the fused optimiser."""
    model = network(spec.backbone, spec.attention, 10, 0, 3, SIDE).to(memory_format=torch.channels_last).train()
    images, updates = images.contiguous(memory_format=torch.channels_last), optimizer(spec, model)

    def step() -> None:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        updates.step()
        updates.zero_grad(set_to_none=True)

    return step


def _loop(backbone: str, rounds: int) -> Iterator[tuple[Any, ...]]:
    """P2: an epoch of our loop, with data, metrics and curves, against bare steps and against convolutions alone."""
    spec = _spec(backbone, augment="crop+flip", epochs=10**6)
    epochs = _epochs(spec)
    step = ours_step(spec, *_batch(spec.batch_size))
    plain = network(backbone, "none", 10, 0, 3, SIDE).to(memory_format=torch.channels_last)
    convs = convolutions(plain, _batch(spec.batch_size)[0].contiguous(memory_format=torch.channels_last))
    things = {"loop": lambda: next(epochs), "step": lambda: _times(step), "convs": lambda: _times(convs)}
    took = Paired(things, rounds)
    what = f"{backbone}: convolutions alone / our training loop"
    yield _row("P2", what, LOOP_GOALS[backbone], True, took.ratio("convs", "loop"))
    yield _row("P2", f"{backbone}: our training loop / bare steps", 1.02, False, took.ratio("loop", "step"))


def _times(step: Any) -> None:
    for _ in range(STEPS):
        step()


def _batches(spec: RunSpec, images: int) -> Batches:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, SIDE, SIDE, 3), np.uint8)
    source: Any = SimpleNamespace(images=pixels, labels=rng.integers(0, 10, images))
    constants = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Batches(Split("train", source, np.arange(images)), spec, constants, torch.device("cpu"))


def _epochs(spec: RunSpec) -> Iterator[Any]:
    batches = _batches(spec, STEPS * spec.batch_size)
    model = network(spec.backbone, "none", 10, 0, 3, SIDE)
    return training(spec, State.fresh(spec, model, batches.steps(), torch.device("cpu")), batches, None, 1e9)


def _mechanisms(names: tuple[str, ...], rounds: int) -> Iterator[tuple[Any, ...]]:
    """P3: whole steps with a mechanism over the same without, and the bytes kept for the backward pass."""
    images, labels = _batch(32)
    took = Paired({name: ours_step(_spec("resnet20", name), images, labels) for name in ("none", *names)}, rounds)
    for name in names:
        goal = COSTS.get(name)
        yield _row("P3", f"resnet20 with {name} / none, a step", goal, False, took.ratio(name, "none"))
    plain = _kept("none", images, labels)
    for name in names:
        ratio = _kept(name, images, labels) / plain
        goal = KEPT.get(name)
        yield _row(
            "P3", f"resnet20 with {name} / none, bytes kept for backward", goal, False, Ratio(ratio, ratio, ratio, 1)
        )


def _kept(attention: str, images: Tensor, labels: Tensor) -> int:
    model = network("resnet20", attention, 10, 0, 3, SIDE).to(memory_format=torch.channels_last).train()
    last = images.contiguous(memory_format=torch.channels_last)
    return kept_for_backward(lambda: torch.nn.functional.cross_entropy(model(last), labels))


def _data(rounds: int) -> Iterator[tuple[Any, ...]]:
    """P4."""
    spec = _spec("resnet20", augment="crop+flip", epochs=10**6)
    batches, numbers = _batches(spec, 8 * spec.batch_size), iter(range(10**6))
    step = ours_step(spec, *_batch(spec.batch_size))
    things = {
        "pil": lambda: [None for _ in pil_batches(batches.split.source.images, spec.batch_size)],
        "ours": lambda: [None for _ in batches.epoch(next(numbers))],
        "steps": lambda: [step() for _ in range(8)],
    }
    took = Paired(things, rounds)
    yield _row("P4", "crop, flip and normalise an image: PIL transforms / ours", 15, True, took.ratio("pil", "ours"))
    yield _row("P4", "crop, flip and normalise a batch / a step of resnet20", 0.02, False, took.ratio("ours", "steps"))
