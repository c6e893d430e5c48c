"""Latency where a network will run: quantiles with intervals, each mechanism interleaved with the plain network."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnbench.catalogue.registry import ATTENTION
from attnbench.deploy.exporting import Forms, check_parity
from attnbench.deploy.parity import INT8, logits_of
from attnbench.deploy.quantising import Real, accuracy, quantised
from attnbench.deploy.runtimes import FROM_ONNX, UNMEASURED, Run, started
from attnbench.errors import AttnbenchError, BadReference, NotExported
from attnbench.examine.bench import BenchSettings
from attnbench.examine.profiling import FEWEST_ROUNDS, bench_network, interleaved, quantile_interval
from attnbench.store.environment import environment

ROUNDS = 80
"""From 72 on there is a 95 % interval of the 95 % quantile with both ends."""
UNTRAINED = 1e-2
"""Of the largest logit: a deep network that nobody trained multiplies roundings; another network is off by far more."""
LIBRARIES = {"eager": ("torch",), "pt2": ("torch",), "openvino": ("openvino",)}
Key = tuple[str, str]
"""Runtime and precision, `fp32` or `int8`."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured of every mechanism.

    Raises:
        AttnbenchError: fewer rounds than an interval needs, or a batch of none.
    """

    runtimes: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    rounds: int = ROUNDS
    real: Real | None = None
    """Images that INT8 is calibrated on; None for float32 alone."""

    def __post_init__(self) -> None:
        if self.rounds < FEWEST_ROUNDS:
            raise AttnbenchError(f"rounds={self.rounds}: a 95 % interval of a median needs at least {FEWEST_ROUNDS}")
        if low := [size for size in self.batch_sizes if size < 1]:
            raise AttnbenchError(f"batch size {low[0]} must be at least 1")

    @property
    def keys(self) -> list[Key]:
        """Every runtime, in float32 and then in INT8 where that was asked for and it runs it."""
        int8 = [(name, "int8") for name in self.runtimes if self.real and name in (*INT8, *UNMEASURED)]
        return [*((name, "fp32") for name in self.runtimes), *int8]


@dataclass
class Arm:
    """A network in every runtime that takes it."""

    runs: dict[Key, Run] = field(default_factory=dict)
    parity: dict[Key, dict[str, Any]] = field(default_factory=dict)
    """What was found before it is timed: `difference`, `agree` in percent, or `refused` with its `operator`."""


def timed(attentions: Sequence[str], bench: BenchSettings, asked: Asked) -> Iterator[dict[str, Any]]:
    """Measure mechanisms one after the other, in all runtimes at once: in each round every network once in each.

    A runtime whose logits are not the network's is not timed.

    Yields:
        A line a mechanism, JSON-ready: seconds of `p50` and `p95`, each with the ends of its 95 % interval, and
        the `ratio` to the plain network in the same runtime, precision and round; without cells and with the reason
        as `no_place` where the mechanism finds no place in the backbone.
    """
    plain = _arm("none", bench, asked) if attentions else Arm()
    for attention in attentions:
        code = str(ATTENTION.resolve(attention).identity)
        line = {"attention": attention, "code": code, "date": str(date.today()), "on": measured_on(bench, asked)}
        try:
            arm = _arm(attention, bench, asked)
        except BadReference as problem:  # of the whole catalogue not everything goes everywhere
            yield {**line, "cells": [], "no_place": str(problem)}
            continue
        cells = [{**_named(key), **arm.parity[key]} for key in asked.keys if key not in arm.runs]
        for size in asked.batch_sizes:
            cells += _cells(plain, arm, _images(bench, size), asked)
        yield {**line, "cells": cells}


def measured_on(bench: BenchSettings, asked: Asked) -> dict[str, Any]:
    """What a line was measured on, by which an interrupted measurement knows what it has."""
    libraries = {name for each in asked.runtimes for name in ("torch", *LIBRARIES.get(each, ("onnxruntime",)))}
    about = {**dataclasses.asdict(bench), "image_size": bench.side, "batch_sizes": list(asked.batch_sizes)}
    del about["batch_size"]
    return {
        **about,
        "runtimes": list(asked.runtimes),
        "rounds": asked.rounds,
        "int8": asked.real.name if asked.real else None,
        "cpu": environment()["cpu"],
        "versions": {name: version(name) for name in sorted(libraries)},
    }


def quantile(values: Sequence[float], share: float) -> tuple[float, float | None, float | None]:
    """A quantile, and two order statistics between which the true one lies with 95 % at least, whatever the law.

    An end is None where so few values have none.
    """
    low, high = (end if np.isfinite(end) else None for end in quantile_interval(values, share))
    return float(np.quantile(values, share, method="inverted_cdf")), low, high


def _arm(attention: str, bench: BenchSettings, asked: Asked) -> Arm:
    """The network in each runtime, its logits compared with its own at every batch size."""
    images = np.concatenate([_images(bench, size) for size in asked.batch_sizes])
    model = _settled(bench_network(bench, attention), torch.from_numpy(images))
    found, forms = Arm(), Forms(model, torch.from_numpy(_images(bench, 2)))
    for key in asked.keys:
        try:
            found.runs[key], found.parity[key] = _checked(key, forms, bench, asked)
        except NotExported as problem:
            found.parity[key] = {"refused": str(problem), "operator": problem.operator}
    return found


def _settled(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """A new network whose batch norms divide by the root mean square of what they get: deep ones overflow without.

    Means are left in: without them little of an image would be in the logits, which runtimes are compared by.

    Args:
        images: those that it will be measured on, N 3 H W.
    """

    def settle(norm: _BatchNorm, inputs: tuple[torch.Tensor]) -> None:
        if norm.running_var is not None:
            norm.running_var.copy_(inputs[0].square().transpose(0, 1).flatten(1).mean(1))

    norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    with torch.no_grad():
        model.eval()(images.contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    return model


def _checked(key: Key, forms: Forms, bench: BenchSettings, asked: Asked) -> tuple[Run, dict[str, Any]]:
    """A runtime with the network in it, and how far its logits (INT8: its classes) are the network's."""
    name, precision = key
    if precision == "int8" and asked.real is not None:
        run = FROM_ONNX[name](quantised(forms.onnx, asked.real.calibration), bench.threads)
        classes = logits_of(forms.eager, asked.real.held_out).argmax(1)
        return run, {"agree": accuracy(logits_of(run, asked.real.held_out), classes)}
    run = started(name, forms, bench.threads)
    batches = [_images(bench, size) for size in asked.batch_sizes]
    apart = [check_parity(name, run(each), forms.eager(each), UNTRAINED) for each in batches]
    return run, {"difference": max(apart)}


def _cells(plain: Arm, arm: Arm, images: np.ndarray, asked: Asked) -> list[dict[str, Any]]:
    """Both networks on one batch in all runtimes that take both, in turn."""
    keys = [key for key in asked.keys if key in plain.runs and key in arm.runs]
    both = {"its": plain, "mine": arm}
    things = {f"{who} {key}": partial(each.runs[key], images) for key in keys for who, each in both.items()}
    taken = interleaved(things, asked.rounds)
    return [{**_named(key), "batch_size": len(images), **arm.parity[key], **_compared(taken, key)} for key in keys]


def _compared(taken: Mapping[str, list[float]], key: Key) -> dict[str, Any]:
    mine, its = (taken[f"{who} {key}"] for who in ("mine", "its"))
    ratios = [one / other for one, other in zip(mine, its, strict=True)]
    of = {"p50": (mine, 0.5), "p95": (mine, 0.95), "ratio": (ratios, 0.5)}
    return {name: list(quantile(values, share)) for name, (values, share) in of.items()}


def _named(key: Key) -> dict[str, str]:
    return {"runtime": key[0], "precision": key[1]}


def _images(bench: BenchSettings, count: int) -> np.ndarray:
    """Normalised images float32 N 3 H W, made up: time does not depend on what they show."""
    shape = (count, 3, bench.side, bench.side)
    return np.random.default_rng(count).standard_normal(shape, np.float32)
