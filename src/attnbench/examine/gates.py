"""The gates of a trained network: where they are, what they are over a split's images, and others in their place."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnbench.data.batches import Batches
from attnbench.errors import AttnbenchError
from attnbench.networks.within import inside
from attnbench.store.runs import RunRecord
from attnbench.training.loop import predict

Swap = Callable[[Tensor], Tensor]
"""What a site multiplies by instead of its gates."""


class Seen(NamedTuple):
    """One site's gates over the images of a split; each of the shape of one image's gate, such as 1 C 1 1."""

    mean: Tensor
    """float64."""
    low: Tensor
    high: Tensor


def gated(model: nn.Module, record: RunRecord) -> list[nn.Module]:
    """The modules that multiply by a gate of the image, outermost first.

    Raises:
        AttnbenchError: there are none.
    """
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if callable(getattr(type(module), "gate", None)) and not inside(path, found):
            found[path] = module
    if not found:
        raise AttnbenchError(
            f"run {record.id}: {record.spec['attention']} has no gate(x); se and cbam are examples that have one"
        )
    return list(found.values())


def swap(sites: Sequence[nn.Module], swaps: Sequence[Swap]) -> None:
    """Let each site multiply by what `swap` makes of its gate."""
    for site, other in zip(sites, swaps, strict=True):
        site.forward = _forward(site, other)


def constant(gate: Tensor) -> Swap:
    """The same gate for every image."""
    return lambda gates: gate.to(gates.dtype)


def seen(model: nn.Module, sites: Sequence[nn.Module], batches: Batches) -> list[Seen]:
    """Run the images through the network as it is, and keep what each site's gates were."""
    found: list[Seen | None] = [None for _ in sites]
    rows = [0 for _ in sites]  # not images: a gate that does not look at the image has one row a batch

    def adding(place: int) -> Swap:
        def add(gates: Tensor) -> Tensor:
            found[place] = _with(found[place], gates.double())
            rows[place] += len(gates)
            return gates

        return add

    own = [site.forward for site in sites]
    swap(sites, [adding(place) for place in range(len(sites))])
    predict(model, batches)
    for site, forward in zip(sites, own, strict=True):
        site.forward = forward
    return [each._replace(mean=each.mean / count) for each, count in zip(found, rows, strict=True) if each is not None]


def _forward(site: Any, other: Swap) -> Callable[[Tensor], Tensor]:
    return lambda x: x * other(site.gate(x))


def _with(found: Seen | None, gates: Tensor) -> Seen:
    """What was seen, and these: the sum in place of the mean."""
    total, low, high = gates.sum(0, keepdim=True), gates.amin(0, keepdim=True), gates.amax(0, keepdim=True)
    if found is None:
        return Seen(total, low, high)
    return Seen(found.mean + total, torch.minimum(found.low, low), torch.maximum(found.high, high))
