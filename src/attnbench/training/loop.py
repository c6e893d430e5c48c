"""The training loop: a generator that hands back at every moment at which a run can stop and go on."""

import contextlib
import functools
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from attnbench import devices
from attnbench.data.batches import Batches
from attnbench.errors import Diverged
from attnbench.seeding import seeded
from attnbench.spec.run import RunSpec
from attnbench.training.optim import learning_rate, optimizer
from attnbench.training.team import ALONE, WHOLE, Share, Team

PLAIN = ("epoch", "step", "curves", "best", "seconds", "cpu_seconds")
"""Fields of the state that are saved as they are."""


@dataclass
class State:
    """What training changes, its position and curves included: saving it is resuming."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    losses: Tensor
    """float32, one per step of the running epoch."""
    correct: Tensor
    """int64, right answers in the running epoch."""
    epoch: int = 0
    step: int = 0
    curves: list[dict[str, float]] = field(default_factory=list)
    """One mapping per finished epoch."""
    seconds: float = 0.0
    """Time of the running epoch, over all processes that took part in it."""
    cpu_seconds: float = 0.0
    """The same in CPU time."""
    average: AveragedModel | None = None
    """The mean of the weights of the last steps, where the spec asks for it."""
    rate: Tensor | None = None
    """float32, the learning rate where a recorded step reads it; None on a CPU."""
    best: dict[str, Any] = field(default_factory=dict)
    """Accuracy, epoch and weights of the best epoch on validation, where that is the selection rule."""
    stop: bool = False
    """Set from outside to hand back, with a checkpoint, after the step in progress."""

    @classmethod
    def fresh(cls, spec: RunSpec, model: nn.Module, steps: int, device: torch.device) -> "State":
        """The state before the first step; moves the model to the device, channels last."""
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            model=model,
            optimizer=optimizer(spec, model),
            scaler=torch.amp.GradScaler(device.type, enabled=device.type == "cuda" and spec.precision == "fp16"),
            losses=torch.zeros(steps, device=device),
            correct=torch.zeros((), dtype=torch.int64, device=device),
            average=AveragedModel(model, use_buffers=True) if spec.averaging else None,
            rate=torch.zeros((), device=device) if device.type == "cuda" else None,
        )

    @property
    def tested(self) -> nn.Module:
        """The network whose weights count: the average as soon as it holds anything."""
        return self.average.module if self.average is not None and self.average.n_averaged else self.model

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values and tensors, so that it loads with `weights_only`."""
        parts = {name: getattr(self, name).state_dict() for name in self._parts()}
        return parts | {name: getattr(self, name) for name in ("losses", "correct", *PLAIN)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to a saved state."""
        for name in self._parts():
            getattr(self, name).load_state_dict(saved[name])
        self.losses.copy_(saved["losses"])
        self.correct.copy_(saved["correct"])
        for name in PLAIN:
            setattr(self, name, saved[name])

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; on a device with memory of its own it lies there."""
        if self.rate is not None:
            self.rate.fill_(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate if self.rate is None else self.rate

    def count_time(self, since: tuple[float, float]) -> None:
        """Add what has passed since `_clocks()` gave that to the running epoch's time."""
        seconds, cpu_seconds = _clocks()
        self.seconds += seconds - since[0]
        self.cpu_seconds += cpu_seconds - since[1]

    def _parts(self) -> tuple[str, ...]:
        return ("model", "optimizer", "scaler", *(["average"] if self.average is not None else []))


@dataclass(frozen=True)
class Pause:
    """A moment at which the loop hands back: an epoch has ended, or a checkpoint is due inside one."""

    kind: Literal["epoch", "checkpoint"]
    state: State


def training(
    spec: RunSpec,
    state: State,
    train: Batches,
    val: Batches | None,
    minutes: float,
    model: nn.Module | None = None,
    recorded: bool = False,
    team: Team = ALONE,
) -> Iterator[Pause]:
    """Train on from `state`; the caller saves, logs or stops at each pause.

    Args:
        val: validation batches, evaluated after each epoch; None for none.
        minutes: time between checkpoints inside an epoch.
        model: the compiled form of `state.model`, where there is one.
        recorded: on a CUDA device, start the kernels of a step as one graph.
        team: the processes that train this run together; each of them iterates.

    Raises:
        Diverged: a loss is not finite.
    """
    forward = state.model if model is None else model  # not `or`, which asks a compiled network for its length
    update: Update = functools.partial(_update, spec, state, forward)
    if recorded and team.size == 1 and train.device.type == "cuda":
        update = devices.Recorded(update)
    due = time.monotonic() + 60 * minutes
    while state.epoch < spec.epochs:
        state.model.train()
        since = _clocks()
        for step, images, labels in train.epoch(state.epoch, state.step):
            place = ("step", state.epoch, step, team.rank)[: 3 + (team.rank > 0)]
            with seeded(spec.seed_of("noise"), *place):  # drawn per step: a run can stop anywhere
                if team.size > 1:
                    whole = team.share(min(spec.batch_size, len(train.split) - step * spec.batch_size))
                    update = functools.partial(_update, spec, state, forward, share=whole)
                _step(spec, state, update, step, images, labels, train.steps())
            state.step = step + 1
            if state.step < train.steps() and team.due(state, time.monotonic() >= due):
                team.collect(state)
                _check_losses(spec, state, train.steps())
                state.count_time(since)
                yield Pause("checkpoint", state)
                since = _clocks()
                due = time.monotonic() + 60 * minutes
        state.count_time(since)
        team.collect(state)
        _close_epoch(spec, state, train, val)
        yield Pause("epoch", state)
        due = time.monotonic() + 60 * minutes


def _clocks() -> tuple[float, float]:
    """Seconds since some moment, and CPU seconds of this process."""
    return time.perf_counter(), time.process_time()


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
            except RuntimeError as problem:
                if size == 1 or not out_of_memory(problem):
                    raise
                size //= 2
    found, labels = torch.cat(logits).cpu(), torch.from_numpy(batches.split.labels)
    if not found.isfinite().all():
        raise Diverged(f"the weights give logits that are not finite on {len(found)} {batches.split.name} images")
    return Predicted(found, labels, size)


def out_of_memory(problem: RuntimeError) -> bool:
    """Whether torch could not have the memory that it asked for; on a CPU it says so only in words."""
    return isinstance(problem, torch.OutOfMemoryError) or "can't allocate memory" in str(problem)


def _logits(model: nn.Module, images: Tensor, flip: bool) -> Tensor:
    logits: Tensor = model(images)
    return ((logits + model(images.flip(3))) / 2 if flip else logits).float()


@contextlib.contextmanager
def stoppable(state: State) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the step in progress and leave a checkpoint; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: object) -> None:
        if state.stop:
            raise KeyboardInterrupt(signal.Signals(number).name)
        state.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


Update = Callable[[Tensor, Tensor], Tensor]
"""What a step computes: of images B C H W and labels B the loss, which it takes a step down."""


def _step(spec: RunSpec, state: State, update: Update, step: int, images: Tensor, labels: Tensor, steps: int) -> None:
    state.set_rate(learning_rate(spec, state.epoch, step, steps))
    loss = update(images, labels)
    state.losses[step] = loss
    if state.average is not None and state.epoch * steps + step >= (1 - spec.averaging) * spec.epochs * steps:
        _take_in(state.average, state.model)
    if images.device.type == "cpu" and not loss.isfinite():
        _check_losses(spec, state, steps)


def _update(
    spec: RunSpec, state: State, forward: nn.Module, images: Tensor, labels: Tensor, share: Share = WHOLE
) -> Tensor:
    with autocast(spec, images.device):
        logits = forward(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=spec.label_smoothing)
    if share is not WHOLE:
        loss = loss * share.weight
    state.scaler.scale(loss if share is WHOLE else loss * share.parts).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if share.counted:
        state.correct += (logits.detach().argmax(1) == labels).sum()
    return loss.detach()


def _take_in(average: AveragedModel, model: nn.Module) -> None:
    """`average.update_parameters(model)`, which on CUDA would wait for the device at every step."""
    taken = int(average.n_averaged)  # stays on the CPU
    with torch.no_grad():
        for kept, value in zip(_values(average.module), _values(model), strict=True):
            kept.copy_(kept + (value - kept) / (taken + 1) if taken else value)
    average.n_averaged += 1


def _values(model: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


def autocast(spec: RunSpec, device: torch.device) -> torch.amp.autocast_mode.autocast:
    """Half precision on CUDA; never on a CPU, where it is many times slower."""
    half = torch.float16 if spec.precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=half, enabled=device.type == "cuda" and spec.precision != "fp32")


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
