"""The training loop: a generator that hands back at every moment at which a run can stop and go on."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.data.batches import Batches
from attnbench.devices import out_of_memory, wait
from attnbench.errors import Diverged
from attnbench.spec.run import RunSpec
from attnbench.training.freezing import begin_epoch
from attnbench.training.optim import learning_rate
from attnbench.training.state import State, clocks
from attnbench.training.step import How, Steps, autocast


@dataclass(frozen=True)
class Pause:
    """A moment at which the loop hands back: an epoch has ended, or a checkpoint is due inside one."""

    kind: Literal["epoch", "checkpoint"]
    state: State


def training(
    spec: RunSpec, state: State, train: Batches, val: Batches | None, minutes: float, how: How | None = None
) -> Iterator[Pause]:
    """Train on from `state`; the caller saves, logs or stops at each pause.

    Args:
        val: validation batches, evaluated after each epoch; None for none.
        minutes: time between checkpoints inside an epoch.
        how: how steps are computed, by which processes; each of them iterates.

    Raises:
        Diverged: a loss is not finite.
    """
    how, last = how or How(), train.steps()
    steps = Steps(spec, state, how, len(train.split), last, train.device)
    seen_at_once = how.team.size == 1 and train.device.type == "cpu"
    due = time.monotonic() + 60 * minutes
    while state.epoch < spec.epochs:
        begin_epoch(spec, state)
        since = clocks()
        for step, images, labels in train.epoch(state.epoch, state.step):
            loss = steps.take(step, images, labels)
            if seen_at_once and not loss.isfinite():
                _check_losses(spec, state, last)
            state.step = step + 1
            if state.step < last and how.team.due(state, time.monotonic() >= due):
                how.team.collect(state)
                _check_losses(spec, state, last)
                state.count_time(since)
                yield Pause("checkpoint", state)
                since, due = clocks(), time.monotonic() + 60 * minutes
        wait(train.device)
        state.count_time(since)
        how.team.collect(state)
        _close_epoch(spec, state, train, val)
        yield Pause("epoch", state)
        due = time.monotonic() + 60 * minutes


class Predicted(NamedTuple):
    """What a network says of all images of a split, on the CPU."""

    logits: Tensor
    """float32 N K."""
    labels: Tensor
    """int64 N."""
    batch_size: int
    """Images at a time, in the end: fewer than in training where memory was short."""


def predict(model: nn.Module, batches: Batches) -> Predicted:
    """Evaluate a split as the run trains: in batches of its size and in its precision, halved when memory is short.

    Where the spec says so, the logits are averaged with those of the mirrored images.

    Raises:
        Diverged: logits that are not finite.
    """
    spec, size = batches.spec, batches.spec.batch_size
    logits: list[Tensor] = []
    model.eval()
    with torch.inference_mode(), autocast(spec, batches.device):
        while (done := sum(map(len, logits))) < len(batches.split):
            try:
                for images, _ in batches.plain(size, done):
                    logits.append(_logits(model, images, spec.tta == "flip"))
            except (RuntimeError, MemoryError) as problem:
                if size == 1 or not out_of_memory(problem):
                    raise
                size //= 2
    found, labels = torch.cat(logits).cpu(), torch.from_numpy(batches.split.labels)
    if not found.isfinite().all():
        raise Diverged(f"the weights give logits that are not finite on {len(found)} {batches.split.name} images")
    return Predicted(found, labels, size)


def _logits(model: nn.Module, images: Tensor, flip: bool) -> Tensor:
    logits: Tensor = model(images)
    return ((logits + model(images.flip(3))) / 2 if flip else logits).float()


def _check_losses(spec: RunSpec, state: State, steps: int) -> None:
    """Look for a loss that is not finite; on CUDA only at pauses, so that no step waits for the device."""
    bad = (~state.losses.isfinite()).nonzero()
    if len(bad):
        step = int(bad[0])
        rate = learning_rate(spec, state.epoch, step, steps)
        loss = float(state.losses[step])
        raise Diverged(f"the loss is {loss} at epoch {state.epoch + 1}, step {step + 1}, learning rate {rate:.3g}")


def _close_epoch(spec: RunSpec, state: State, train: Batches, val: Batches | None) -> None:
    """Write the epoch's point of the curves, keep the best weights, and begin the next epoch."""
    steps = train.steps()
    _check_losses(spec, state, steps)
    seen = min(steps * spec.batch_size, len(train.split))
    weights = torch.full((steps,), float(spec.batch_size), dtype=torch.float64)
    weights[-1] = seen - spec.batch_size * (steps - 1)
    point = {
        "epoch": state.epoch + 1,
        "train_loss": float((state.losses.cpu().double() * weights).sum() / seen),
        "train_accuracy": 100 * int(state.correct) / seen,
        "lr": learning_rate(spec, state.epoch, steps - 1, steps),
        "seconds": state.seconds,
        "cpu_seconds": state.cpu_seconds,
    }
    if val is not None:
        logits, labels, _ = predict(state.tested, val)
        point["val_loss"] = float(F.cross_entropy(logits, labels))
        point["val_accuracy"] = 100 * float((logits.argmax(1) == labels).double().mean())
        if spec.selection == "best-val" and point["val_accuracy"] > state.best.get("accuracy", -1.0):
            kept = {name: value.detach().clone() for name, value in state.tested.state_dict().items()}
            state.best = {"accuracy": point["val_accuracy"], "epoch": state.epoch + 1, "weights": kept}
    state.curves.append(point)
    state.epoch, state.step = state.epoch + 1, 0
    state.seconds = state.cpu_seconds = 0.0
    state.losses.zero_()
    state.correct.zero_()
