"""One training step: a batch whole, in parts, or shared with other processes; as written, or as a recorded graph."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from attnbench import devices
from attnbench.seeding import seeded
from attnbench.spec.run import RunSpec
from attnbench.training.optim import learning_rate
from attnbench.training.state import State
from attnbench.training.team import ALONE, WHOLE, Share, Team


@dataclass(frozen=True)
class How:
    """How the steps of a run are computed; what they compute is the spec's."""

    forward: nn.Module | None = None
    """The compiled form of the network, or the one that several processes share; None for the network as it is."""
    recorded: bool = False
    """On a CUDA device, start the kernels of a step as one graph."""
    in_parts: bool = False
    """Take a batch in parts when memory does not hold it whole; for networks that see images one by one."""
    team: Team = ALONE
    """The processes that train this run together."""


Update = Callable[..., Tensor]
"""What a step computes: of images B C H W and labels B the loss, which it takes a step down."""


class Steps:
    """The steps of a run, one after the other.

    Args:
        images: how many there are to train on.
        steps: how many steps an epoch has.
    """

    def __init__(self, spec: RunSpec, state: State, how: How, images: int, steps: int, device: torch.device) -> None:
        self.spec, self.state, self.how, self.images, self.steps = spec, state, how, images, steps
        forward = state.model if how.forward is None else how.forward  # not `or`: a compiled network has no length
        self._written: Update = functools.partial(_in_parts if how.in_parts else _update, spec, state, forward)
        self._recorded = how.recorded and how.team.size == 1 and not how.in_parts and devices.on_card(device)
        self._update: Update = self._written
        self._thawed: bool | None = None

    def _begin(self, thawed: bool) -> None:
        """Record steps anew where more parameters learn than in those before."""
        if thawed != self._thawed:
            self._update = devices.Recorded(self._written) if self._recorded else self._written
            self._thawed = thawed

    def take(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """Take a step of the running epoch; its loss, which counts for as much as this process computes of it."""
        spec, state, team = self.spec, self.state, self.how.team
        place = ("step", state.epoch, step, *([team.rank] if team.rank else []))
        with seeded(spec.seed_of("noise"), *place):  # drawn per step: a run can stop anywhere
            self._begin(thawed=state.epoch >= spec.freeze_epochs)
            state.set_rate(learning_rate(spec, state.epoch, step, self.steps))
            whole = min(spec.batch_size, self.images - step * spec.batch_size)
            loss = self._update(images, labels, **({} if team.size == 1 else {"share": team.share(whole)}))
            state.losses[step] = loss
            averaged = (1 - spec.averaging) * spec.epochs * self.steps
            if state.average is not None and state.epoch * self.steps + step >= averaged:
                take_in(state.average, state.model)
        return loss


def _update(
    spec: RunSpec,
    state: State,
    forward: nn.Module,
    images: Tensor,
    labels: Tensor,
    share: Share = WHOLE,
    parts: int = 1,
) -> Tensor:
    losses, right = [], []
    for some, theirs in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
        with autocast(spec, images.device):
            logits = forward(some)
            loss = F.cross_entropy(logits, theirs, label_smoothing=spec.label_smoothing)
        weight = share.weight * len(some) / len(images)
        loss = loss if weight == 1 else loss * weight
        state.scaler.scale(loss if share.parts == 1 else loss * share.parts).backward()
        losses.append(loss.detach())
        right.append((logits.detach().argmax(1) == theirs).sum())
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if share.counted:
        state.correct += sum(right[1:], right[0])
    return sum(losses[1:], losses[0])


def _in_parts(spec: RunSpec, state: State, forward: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """A step whose gradients come from parts of the batch, one after the other: twice as many when memory is short."""
    while True:
        try:
            return _update(spec, state, forward, images, labels, parts=min(state.parts, len(images)))
        except RuntimeError as problem:
            if not devices.out_of_memory(problem) or state.parts >= len(images):
                raise
            state.optimizer.zero_grad(set_to_none=True)
            state.parts *= 2


def take_in(average: AveragedModel, model: nn.Module) -> None:
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
    precision = devices.precision(spec.precision, device)
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=half, enabled=precision != "fp32")
