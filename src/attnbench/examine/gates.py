"""The gates of a trained network: where they are, what they are over a split's images, and others in their place."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnbench.catalogue import foreign
from attnbench.data.batches import Batches
from attnbench.errors import AttnbenchError
from attnbench.networks.within import inside
from attnbench.store.runs import RunRecord
from attnbench.training.loop import predict

ROUNDING = 1e-4
"""Difference of logits, as a share of the largest, that sums in another order explain."""
TRIED = 8
"""On so many images a network must do the same with its own gates put in their place."""
Swap = Callable[[Tensor], Tensor]
"""What a site multiplies by instead of its gates."""


class Seen(NamedTuple):
    """One site's gates over the images of a split; each of the shape of one image's gate, such as 1 C 1 1."""

    mean: Tensor
    """float64."""
    low: Tensor
    high: Tensor


def exchangeable(model: nn.Module, record: RunRecord, batches: Batches) -> list[nn.Module]:
    """The modules whose gates others can take the place of, outermost first: their own, put there, change nothing.

    Args:
        batches: training images, of which the first few are tried.

    Raises:
        AttnbenchError: there are none, the network does not call one of them, or one does not multiply by gate(x).
    """
    sites, called = gated(model, record), set[nn.Module]()

    def noting(site: nn.Module) -> Swap:
        def own(gates: Tensor) -> Tensor:
            called.add(site)
            return gates

        return own

    images, _ = next(batches.plain(TRIED))
    run = f"run {record.id}: {record.spec['attention']}"
    with torch.inference_mode(), foreign.running(f"{run} as x * gate(x)"):
        before = model(images)
        with _swapped(sites, [noting(site) for site in sites]):
            found = apart(model(images), before)
    if idle := [type(site).__name__ for site in sites if site not in called]:
        raise AttnbenchError(
            f"{run}: its {idle[0]} has a gate(x), but is not called itself, so that no other gate takes effect; a "
            "mechanism with a gate(x) of its own, whose forward is x * self.gate(x), would do"
        )
    if not found <= ROUNDING:
        raise AttnbenchError(f"{run}: is not x * gate(x), with which logits differ by {found:.2g} of the largest")
    return sites


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

    with _swapped(sites, [adding(place) for place in range(len(sites))]):
        predict(model, batches)
    return [each._replace(mean=each.mean / count) for each, count in zip(found, rows, strict=True) if each is not None]


def apart(one: Tensor, other: Tensor) -> float:
    """Largest difference between logits N K, as a share of the largest of the other ones."""
    return float((one - other).abs().max() / other.abs().max())


@contextlib.contextmanager
def _swapped(sites: Sequence[nn.Module], swaps: Sequence[Swap]) -> Iterator[None]:
    """Let sites multiply by what `swaps` make of their gates, as long as the block lasts."""
    own = [site.forward for site in sites]
    swap(sites, swaps)
    try:
        yield
    finally:
        for site, forward in zip(sites, own, strict=True):
            site.forward = forward


def _forward(site: Any, other: Swap) -> Callable[[Tensor], Tensor]:
    return lambda x: x * other(site.gate(x))


def _with(found: Seen | None, gates: Tensor) -> Seen:
    """What was seen, and these: the sum in place of the mean."""
    total, low, high = gates.sum(0, keepdim=True), gates.amin(0, keepdim=True), gates.amax(0, keepdim=True)
    if found is None:
        return Seen(total, low, high)
    return Seen(found.mean + total, torch.minimum(found.low, low), torch.maximum(found.high, high))
