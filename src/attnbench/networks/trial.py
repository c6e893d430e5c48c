"""Somebody's own mechanism tried before it is trained: forward and back once, on maps of each shape it will see."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from attnbench.catalogue import foreign
from attnbench.catalogue.registry import Choice
from attnbench.errors import BadReference
from attnbench.networks.weights import weights_of
from attnbench.seeding import seeded

Shape = tuple[int, int, int]


def plain_maps(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook before somebody's own module: maps of its own, laid out as B C H W.

    Published modules use `view`, which fails on maps laid out channels last, and change maps in place, which would
    reach whatever else of the network reads them.
    """
    maps, *others = inputs
    return (maps.clone(memory_format=torch.contiguous_format), *others)


def is_foreign(choice: Choice[Any]) -> bool:
    """Whether a mechanism, or a part of it, is somebody's own."""
    return not choice.entry.builtin or any(map(is_foreign, choice.parts))


@dataclass(frozen=True)
class Trial:
    """How somebody's own mechanism is tried: with as many maps, and there."""

    batch: int = 2
    device: str | torch.device = "cpu"

    def of(self, module: nn.Module, choice: Choice[Any], path: str, shape: Shape) -> None:
        """Run a copy of a mechanism in training on random maps, and look at what it gives and which weights it uses.

        Neither the module nor any random stream is changed.

        Raises:
            BadReference, ForeignError: it cannot be trained there; with its traceback if its own code raised.
        """
        size = "x".join(map(str, (self.batch, *shape)))
        where = f"{choice} at {path} on maps of {size}"
        if any(map(is_lazy, module.parameters())):
            raise BadReference(f"{where}: lazy layers get their weights too late; give them their width")
        with _untouched(), seeded(0, "trial"), foreign.running(where), torch.enable_grad():
            trial = copy.deepcopy(module).train().to(self.device)
            before = dict(trial.named_parameters())
            maps = torch.randn(self.batch, *shape, device=self.device, requires_grad=True)
            given = trial(maps * 1)  # as in a network, no leaf: leaves refuse to be changed in place
            after = dict(trial.named_parameters())
            if wrong := _wrong(given, maps) or _strangers(given, before, after):
                raise BadReference(f"{where}: {wrong}")
            given.float().square().mean().backward()
            save(weights_of(trial))


@contextmanager
def _untouched() -> Iterator[None]:
    """Leave the generators of Python and numpy as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _wrong(given: Any, maps: Tensor) -> str:
    """What is wrong with what forward returned."""
    if not isinstance(given, Tensor):
        return f"forward returns {type(given).__name__}, not maps of the shape that it was given"
    if given.shape != maps.shape:
        gate = given.dim() == 4 and all(one in (1, whole) for one, whole in zip(given.shape, maps.shape, strict=True))
        shape = "x".join(map(str, given.shape))
        hint = "; that is a gate alone: return x * gate" if gate else ""
        return f"forward returns the shape {shape}, not that of its maps{hint}"
    if given.dtype != maps.dtype or given.device != maps.device:
        return f"forward returns {given.dtype} on {given.device}, not {maps.dtype} on {maps.device}"
    if not given.requires_grad:
        return "forward returns maps without a gradient, so that nothing before them would learn"
    return ""


def _strangers(given: Tensor, before: dict[str, nn.Parameter], after: dict[str, nn.Parameter]) -> str:
    """What of the weights behind the result no optimiser would get: made in forward, or kept out of the module."""
    made = [name for name in after if after[name] is not before.get(name)]
    if made:
        return f"{', '.join(made)} made in forward, where it is too late: make layers in __init__"
    known = {id(parameter) for parameter in before.values()}
    hidden = [leaf for leaf in _leaves(given) if isinstance(leaf, nn.Parameter) and id(leaf) not in known]
    if hidden:
        shapes = ", ".join("x".join(map(str, leaf.shape)) for leaf in hidden[:3])
        return f"weights ({shapes}) that no optimiser finds: layers made in forward, or kept in a plain list"
    return ""


def _leaves(given: Tensor) -> Iterator[Tensor]:
    """The tensors that a result's gradient ends at."""
    waiting, seen = [given.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            yield leaf
        waiting += [further for further, _ in node.next_functions]
