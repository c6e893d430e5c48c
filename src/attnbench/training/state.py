"""What training changes, and how it is saved: the state of a run between two steps."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from attnbench import devices
from attnbench.spec.run import RunSpec
from attnbench.training.optim import begin_momentum, optimizer

PLAIN = ("epoch", "step", "curves", "best", "seconds", "cpu_seconds", "parts")
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
    rates: dict[float, Tensor] = field(default_factory=dict)
    """Multiple of the learning rate -> that, float32, where a recorded step reads it; empty on a CPU."""
    parts: int = 1
    """In how many parts a batch is taken, where memory does not hold it whole."""
    best: dict[str, Any] = field(default_factory=dict)
    """Accuracy, epoch and weights of the best epoch on validation, where that is the selection rule."""
    stop: bool = False
    """Set from outside to hand back, with a checkpoint, after the step in progress."""

    @classmethod
    def fresh(cls, spec: RunSpec, model: nn.Module, steps: int, device: torch.device) -> "State":
        """The state before the first step; moves the model to the device, channels last."""
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        made = optimizer(spec, model)
        scaler = torch.amp.GradScaler(device.type, enabled=devices.precision(spec.precision, device) == "fp16")
        if scaler.is_enabled():
            begin_momentum(made)
        scales = {group["lr_scale"] for group in made.param_groups if devices.on_card(device)}
        return cls(
            model=model,
            optimizer=made,
            scaler=scaler,
            losses=torch.zeros(steps, device=device),
            correct=torch.zeros((), dtype=torch.int64, device=device),
            average=AveragedModel(model, use_buffers=True) if spec.averaging else None,
            rates={scale: torch.zeros((), device=device) for scale in scales},
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
            setattr(self, name, saved.get(name, getattr(self, name)))  # checkpoints of earlier versions lack some

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; on a device with memory of its own it lies there."""
        for scale, kept in self.rates.items():
            kept.fill_(rate * scale)
        for group in self.optimizer.param_groups:
            scale = group.get("lr_scale", 1.0)  # checkpoints of earlier versions lack it
            group["lr"] = self.rates[scale] if self.rates else rate * scale

    def count_time(self, since: tuple[float, float]) -> None:
        """Add what has passed since `clocks()` gave that to the running epoch's time."""
        seconds, cpu_seconds = clocks()
        self.seconds += seconds - since[0]
        self.cpu_seconds += cpu_seconds - since[1]

    def _parts(self) -> tuple[str, ...]:
        return ("model", "optimizer", "scaler", *(["average"] if self.average is not None else []))


def clocks() -> tuple[float, float]:
    """Seconds since some moment, and CPU seconds of this process."""
    return time.perf_counter(), time.process_time()
