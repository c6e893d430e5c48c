"""What a module computes: gates, gradients, types, and what it must not look at."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from attnbench.examine.promises import CHANNELS, DoesNotApply, Subject, gated, has_gate, images, promise, unequal
from attnbench.seeding import seeded

MARGIN = 40
"""Side of a map with room for a pattern far from its borders."""


@promise("gates within the range on its card, and reaches both halves of it")
def _gates_in_range(subject: Subject) -> Iterator[str]:
    if subject.card.gate is None:
        raise DoesNotApply("its card has no range for a gate")
    module: Any = subject.redrawn()
    if not has_gate(module):
        yield "its card has a range for a gate, but there is no method gate(x)"
        return
    (low, high), gates = subject.card.gate, module.gate(images(8, CHANNELS, 8, 8))
    if not low <= gates.min() <= gates.max() <= high:
        yield f"gates from {gates.min():.3f} to {gates.max():.3f} leave the range {low} to {high}"
    if subject.at_defaults and math.isfinite(high) and not gates.min() < (low + high) / 2 < gates.max():
        yield f"gates from {gates.min():.3f} to {gates.max():.3f} never leave one half of {low} to {high}"


@promise("multiplies its input by gate(x), where it has one")
def _multiplies_by_its_gate(subject: Subject) -> Iterator[str]:
    module, x = gated(subject.redrawn().eval()), images(2, CHANNELS, 6, 6)
    yield from unequal(module(x), x * module.gate(x), "its output is not its input times gate(x)")


@promise("gates a channel alike however its positions are ordered, where its gate is one value a channel")
def _gates_without_places(subject: Subject) -> Iterator[str]:
    module, x = gated(subject.redrawn().eval()), images(2, CHANNELS, 8, 8)
    gate = module.gate(x)
    if gate.shape[2:] != (1, 1):
        raise DoesNotApply("its gate is not one value a channel")
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    moved = module.gate(x.flatten(2)[:, :, order].unflatten(2, [8, 8]))
    wrong = list(unequal(moved, gate, "other gates for the same values in another order"))
    if wrong and subject.positions:
        raise DoesNotApply(f"places matter to it: {subject.positions}")
    yield from wrong


@promise("treats a pattern alike wherever it lies, unless its card says why not")
def _ignores_places(subject: Subject) -> Iterator[str]:
    wrong, reason = _places(subject), subject.positions
    if wrong and reason:
        raise DoesNotApply(f"places matter to it: {reason}")
    yield from wrong
    if reason and subject.at_defaults and not any(_places(each, seed) for each in subject.choices for seed in range(4)):
        yield "its card says that places matter, but a pattern has the same output in another place"


def _places(subject: Subject, seed: int = 0) -> list[str]:
    """What differs for a pattern that lies in another place of an empty map."""
    module, pattern = subject.redrawn(size=(MARGIN, MARGIN), seed=seed).eval(), images(1, CHANNELS, 4, 4)
    found = []
    for top, left in ((15, 15), (20, 22)):  # farther from each border than any kernel reaches
        x = torch.zeros(1, CHANNELS, MARGIN, MARGIN)
        x[:, :, top : top + 4, left : left + 4] = pattern
        found.append(module(x)[:, :, top : top + 4, left : left + 4])
    return list(unequal(found[1], found[0], "another output for the same pattern in another place"))


@promise("computes an image's output without its neighbours in the batch")
def _ignores_neighbours(subject: Subject) -> Iterator[str]:
    module, batch = subject.redrawn().eval(), images(4, CHANNELS, 8, 8)
    yield from unequal(module(batch)[:1], module(batch[:1]), "an image's output depends on its neighbours")


@promise("leaves its input as it was")
def _leaves_its_input(subject: Subject) -> Iterator[str]:
    x = images(2, CHANNELS, 6, 6)
    before = x.clone()
    subject.redrawn()(x)
    if not torch.equal(x, before):
        yield "changes its input in place"


@promise("follows device, dtype and memory format")
def _follows(subject: Subject) -> Iterator[str]:
    x = images(2, CHANNELS, 6, 6)
    single = subject.redrawn().eval()(x)
    module = subject.redrawn().eval().double()
    double = module(x.double())
    yield from unequal(double.float(), single, "float64 differs from float32", 1e-3)
    last = module.to(memory_format=torch.channels_last)(x.double().contiguous(memory_format=torch.channels_last))
    yield from unequal(last, double, "differs for channels_last")  # in float64: layouts round differently
    if not last.is_contiguous(memory_format=torch.channels_last):
        yield "gives an output that is not channels_last for an input that is"
    half = subject.build().eval().bfloat16()(x.bfloat16())
    for given, found in ((torch.float64, double.dtype), (torch.bfloat16, half.dtype)):
        if given != found:
            yield f"gives {found} for {given}"
    moved = module.to("meta")(x.double().to("meta"))
    if moved.device.type != "meta":
        yield f"gives a tensor on {moved.device} for one on meta"


@promise("repeats itself to the bit in deterministic mode")
def _repeats(subject: Subject) -> Iterator[str]:
    with _deterministic():
        first, second = (_gradients(subject) for _ in range(2))
    if not all(torch.equal(one, two) for one, two in zip(first, second, strict=True)):
        yield "two equal steps give other outputs or gradients"


@promise("has the gradient of what it computes")
def _has_its_gradient(subject: Subject) -> Iterator[str]:
    module = subject.redrawn(8, (4, 3)).double().eval()
    x = images(2, 8, 4, 3).double().requires_grad_()

    def agrees(step: float) -> bool:
        return torch.autograd.gradcheck(
            module, (x,), eps=step, atol=1e-4, rtol=1e-3, raise_exception=False, fast_mode=True
        )

    if not (agrees(1e-6) or agrees(1e-3)):  # what computes a part in float32 has no finer differences
        yield "its gradient is not that of its output (finite differences in float64)"


def _gradients(subject: Subject) -> list[Tensor]:
    module, x = subject.redrawn(), images(2, CHANNELS, 6, 6).requires_grad_()
    with seeded(0, "conformance", "step"):
        y = module(x)
    y.square().mean().backward()
    return [y, *(p.grad for p in (x, *module.parameters()) if p.grad is not None)]


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
