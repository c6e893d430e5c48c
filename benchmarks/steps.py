"""P1 to P4: the step, the loop around it, mechanisms, and data."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from baselines import classic_step, convolutions, pil_batches, textbook, timm_step
from paired import Paired, Row, spread
from torch import Tensor

from attnbench.data.batches import Batches, training_side
from attnbench.data.splits import Split
from attnbench.examine.bench import BenchSettings
from attnbench.examine.profiling import bench_network, synthetic_batch
from attnbench.networks.cost import activation_bytes
from attnbench.spec.recipes import preset
from attnbench.spec.run import RunSpec
from attnbench.spec.study import Study
from attnbench.training.loop import training
from attnbench.training.numerics import keep_pages
from attnbench.training.optim import optimizer
from attnbench.training.state import State

SIDE = 32
STEP_GOALS = {"resnet20": 1.20, 'resnet18(stem="cifar")': 1.07}
LOOP_GOALS = {"resnet20": 0.85, 'resnet18(stem="cifar")': 0.90}
BATCH = {"resnet20": 32, 'resnet18(stem="cifar")': 16}
COSTS = {"se": 1.04, "eca": 1.04, "cbam": 1.15}
KEPT = {"se": 1.15, "cbam": 1.25}
OTHERS = ("bam", "coord", "triplet", "simam", "gc", "srm", "gct")
TARGET = Path(__file__).parent.parent / "studies" / "fast-cifar10.yaml"
STEPS = 6
"""Steps of an epoch of the measured loop."""


def rows(quick: bool) -> Iterator[Row]:
    """The figures of P1 to P4."""
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
    if not quick:
        yield from _target(rounds)


def spec_of(backbone: str, attention: str = "none", **fields: Any) -> RunSpec:
    given = {"backbone": backbone, "attention": attention, "batch_size": BATCH.get(backbone, 32), **fields}
    return RunSpec(**{**preset("classic"), "dataset": "CIFAR10", "image_size": SIDE, **given})


def batch(size: int, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Images in channels-last memory and labels, made up."""
    return synthetic_batch(BenchSettings(batch_size=size, image_size=side))


def _steps(backbone: str, rounds: int) -> Iterator[Row]:
    """P1."""
    images, labels = batch(BATCH[backbone])
    plain = images.contiguous()
    for attention in ("none", "se", "cbam"):
        things = {
            "classic": classic_step(textbook(backbone, attention), plain, labels),
            "timm": timm_step(textbook(backbone, attention), plain, labels),
            "ours": ours_step(spec_of(backbone, attention), images, labels),
        }
        took = Paired(things, rounds)
        what = f"{backbone} with {attention}, a step: %s / ours"
        yield Row("P1", what % "classic loop", STEP_GOALS[backbone], True, *took.ratio("classic", "ours"))
        if backbone == "resnet20":
            yield Row("P1", what % "timm's step", 1.15, True, *took.ratio("timm", "ours"))


def ours_step(spec: RunSpec, images: Tensor, labels: Tensor) -> Any:
    """A bare step with what our loop steps with: channels last, our modules, the fused optimiser."""
    model = bench_network(BenchSettings(backbone=spec.backbone, image_size=SIDE), spec.attention)
    updates = optimizer(spec, model)

    def step() -> None:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        updates.step()
        updates.zero_grad(set_to_none=True)

    return step


def _loop(backbone: str, rounds: int) -> Iterator[Row]:
    """P2: an epoch of our loop, with data, metrics and curves, against bare steps and against convolutions alone."""
    spec = spec_of(backbone, augment="crop+flip", epochs=10**6)
    epochs = _epochs(spec)
    step = ours_step(spec, *batch(spec.batch_size))
    convs = convolutions(
        bench_network(BenchSettings(backbone=backbone, image_size=SIDE), "none"), batch(spec.batch_size)[0]
    )
    things = {"loop": lambda: next(epochs), "step": lambda: _times(step), "convs": lambda: _times(convs)}
    took = Paired(things, rounds)
    what = f"{backbone}: convolutions alone / our training loop"
    yield Row("P2", what, LOOP_GOALS[backbone], True, *took.ratio("convs", "loop"))
    yield Row("P2", f"{backbone}: our training loop / bare steps", 1.02, False, *took.ratio("loop", "step"))


def _times(step: Any) -> None:
    for _ in range(STEPS):
        step()


def batches_of(spec: RunSpec, images: int) -> Batches:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, SIDE, SIDE, 3), np.uint8)
    source: Any = SimpleNamespace(images=pixels, labels=rng.integers(0, 10, images))
    constants = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return Batches(Split("train", source, np.arange(images)), spec, constants, torch.device("cpu"))


def _epochs(spec: RunSpec) -> Iterator[Any]:
    batches = batches_of(spec, STEPS * spec.batch_size)
    model = bench_network(BenchSettings(backbone=spec.backbone, image_size=SIDE), "none")
    return training(spec, State.fresh(spec, model, batches.steps(), torch.device("cpu")), batches, None, 1e9)


def _mechanisms(names: tuple[str, ...], rounds: int) -> Iterator[Row]:
    """P3: whole steps with a mechanism over the same without, and the bytes kept for the backward pass."""
    images, labels = batch(32)
    took = Paired({name: ours_step(spec_of("resnet20", name), images, labels) for name in ("none", *names)}, rounds)
    for name in names:
        goal = COSTS.get(name)
        yield Row("P3", f"resnet20 with {name} / none, a step", goal, False, *took.ratio(name, "none"))
    plain = _kept("none", images, labels)
    for name in names:
        ratio = _kept(name, images, labels) / plain
        goal = KEPT.get(name)
        yield Row("P3", f"resnet20 with {name} / none, bytes kept for backward", goal, False, ratio, ratio, ratio, 1)


def _kept(attention: str, images: Tensor, labels: Tensor) -> int:
    model = bench_network(BenchSettings(image_size=SIDE), attention)
    return activation_bytes(lambda: torch.nn.functional.cross_entropy(model(images), labels))


def _data(rounds: int) -> Iterator[Row]:
    """P4."""
    spec = spec_of("resnet20", augment="crop+flip", epochs=10**6)
    batches, numbers = batches_of(spec, 8 * spec.batch_size), itertools.count()
    step = ours_step(spec, *batch(spec.batch_size))
    things = {
        "pil": lambda: [None for _ in pil_batches(batches.split.source.images, spec.batch_size)],
        "ours": lambda: [None for _ in batches.epoch(next(numbers))],
        "steps": lambda: [step() for _ in range(8)],
    }
    took = Paired(things, rounds)
    yield Row("P4", "crop, flip and normalise an image: PIL transforms / ours", 15, True, *took.ratio("pil", "ours"))
    yield Row("P4", "crop, flip and normalise a batch / a step of resnet20", 0.02, False, *took.ratio("ours", "steps"))


def _target(rounds: int) -> Iterator[Row]:
    """P5: all steps of the classic recipe against all steps of the study that reaches its accuracy."""
    classic, ours = RunSpec(dataset="CIFAR10"), Study.load(TARGET).runs()[0]
    images, labels = batch(classic.batch_size)
    sides = [str(training_side(ours, epoch, SIDE)) for epoch in range(ours.epochs)]
    things = {side: ours_step(ours, *batch(ours.batch_size, int(side))) for side in sorted(set(sides))}
    step = classic_step(textbook(classic.backbone, "none"), images.contiguous(), labels)
    took = Paired({"classic": step, **things}, rounds).seconds
    ratios = [
        (classic.epochs * whole / classic.batch_size) / (sum(took[side][number] for side in sides) / ours.batch_size)
        for number, whole in enumerate(took["classic"])
    ]
    what = f"all steps: classic recipe, {classic.epochs} epochs / {TARGET.stem}, {ours.epochs} epochs"
    yield Row("P5", what, 40, True, *spread(ratios))
