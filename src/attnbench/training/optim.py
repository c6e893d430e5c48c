"""Optimiser and learning rate, from a spec."""

import math

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from attnbench.devices import on_card
from attnbench.networks.within import inside
from attnbench.spec.run import RunSpec
from attnbench.training.groups import parameter_groups

ONECYCLE_RISE, ONECYCLE_START, ONECYCLE_END = 0.3, 1 / 25, 1e-4


def optimizer(spec: RunSpec, model: nn.Module) -> Optimizer:
    """AdamW or SGD with Nesterov momentum over all parameters that learn.

    What the mechanism's card exempts takes no weight decay.
    """
    groups = parameter_groups(spec, model, set(_exempt(spec, model)))
    if spec.optimizer == "adamw":
        adamw = AdamW(groups, lr=spec.lr, fused=True, capturable=on_card(groups[0]["params"][0].device))
        adamw._warned_capturable_if_run_uncaptured = True  # some steps are not recorded
        return adamw
    return SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0, fused=True)


def begin_momentum(made: Optimizer) -> None:
    """Let SGD's momentum begin at zero: torch leaves it undefined where the first step overflows in fp16."""
    for group in made.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def learning_rate(spec: RunSpec, epoch: int, step: int, steps: int) -> float:
    """The learning rate of a step: a function of position alone, so that a run can stop and go on anywhere.

    `cosine-epoch` is torch's CosineAnnealingLR by epoch, `onecycle` its OneCycleLR without the momentum's cycle
    (Smith and Topin 2017, 1708.07120); a linear warm-up goes before the other three.
    """
    position, total = epoch * steps + step, spec.epochs * steps
    if spec.schedule == "onecycle":
        return spec.lr * _onecycle(position, total, spec.warmup * steps or ONECYCLE_RISE * total)
    warm = spec.warmup * steps
    if position < warm:
        return spec.lr * (position + 1) / (warm + 1)
    if spec.schedule == "constant":
        return spec.lr
    if spec.schedule == "cosine-epoch":
        position = epoch * steps
    return spec.lr * (1 + math.cos(math.pi * max(0.0, position - warm) / max(1, total - warm))) / 2


def _onecycle(position: int, total: int, rise: float) -> float:
    """Up from 1/25 of the peak to the peak, down to 1/10,000 of the start, both along a cosine."""
    peak = rise - 1
    if position <= peak:
        return _between(ONECYCLE_START, 1.0, position / peak if peak > 0 else 1.0)
    return _between(1.0, ONECYCLE_START * ONECYCLE_END, (position - peak) / max(1e-9, total - 1 - peak))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def _exempt(spec: RunSpec, model: nn.Module) -> list[str]:
    attention = spec.resolved.attention
    if not attention.card.no_decay:
        return []
    kind = attention.entry.load()
    paths: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, kind) and not inside(path, paths):
            paths.append(path)  # what is composed of its own kind counts once, as a whole
    return [f"{path}.{name}" for path in paths for name in attention.card.no_decay]
