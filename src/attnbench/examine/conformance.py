"""What every mechanism promises: the faults of published zoos, each as a property that can be checked on any module.

`attnbench check pkg.mod:Class` and the tests of our own catalogue run the same functions.
"""

import copy
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.catalogue.cards import Paper
from attnbench.catalogue.formula import Size, promised
from attnbench.catalogue.refs import Ref
from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import BadReference
from attnbench.mechanisms import build_attention
from attnbench.seeding import seeded

WIDTHS = (8, 24, 64)
WIDE = (256, 2048)
"""Checked on `meta`, where width costs nothing."""
MAPS: tuple[Size, ...] = ((8, 8), (7, 5), (1, 1))
CHANNELS = 32


@dataclass(frozen=True)
class Subject:
    """A mechanism under test: how it is built, and what its card says."""

    reference: str

    @property
    def card(self) -> Paper:
        """Its card; a blank one for a class without."""
        return ATTENTION.resolve(self.reference).card

    @property
    def options(self) -> dict[str, Any]:
        """All its options, those left at their defaults too."""
        return ATTENTION.resolve(self.reference).settings

    def build(self, channels: int = CHANNELS, size: Size = MAPS[0]) -> nn.Module:
        """The module as it is initialised."""
        with seeded(0, "conformance"):
            return build_attention(self.reference, channels, size)

    def redrawn(self, channels: int = CHANNELS, size: Size = MAPS[0], seed: int = 0) -> nn.Module:
        """The module with every parameter drawn anew, since many start at a value that hides what they do."""
        module, generator = self.build(channels, size), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_(generator=generator)
        return module


Check = Callable[[Subject], Iterator[str]]
PROMISES: dict[str, Check] = {}
"""What is promised, as a sentence -> the function that yields what breaks it."""


def promise(sentence: str) -> Callable[[Check], Check]:
    """Add a function to what every mechanism promises."""

    def add(check: Check) -> Check:
        PROMISES[sentence] = check
        return check

    return add


def broken(reference: str, sentence: str) -> list[str]:
    """What breaks one promise; empty if the mechanism keeps it. An exception counts, and is told in one line.

    Raises:
        BadReference: nothing is called so.
    """
    subject = Subject(reference)
    ATTENTION.resolve(reference)
    try:
        return list(PROMISES[sentence](subject))
    except Exception as problem:
        cause = problem.__cause__ if isinstance(problem, BadReference) and problem.__cause__ else problem
        return [f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"]


@promise("keeps the shape at every width and map, in training too")
def _keeps_the_shape(subject: Subject) -> Iterator[str]:
    for channels, size in [(channels, size) for channels in WIDTHS for size in MAPS]:
        x = _images(2, channels, *size).requires_grad_()
        y = subject.build(channels, size)(x)
        where = f"at {channels} channels on {size[0]}x{size[1]}"
        if y.shape != x.shape:
            yield f"{where} gives the shape {tuple(y.shape)} for {tuple(x.shape)}"
            continue
        y.square().mean().backward()
        if not (y.isfinite().all() and x.grad is not None and x.grad.isfinite().all()):
            yield f"{where} gives values or gradients that are not finite"
    if subject.build(CHANNELS, (8, 8)).eval()(_images(1, CHANNELS, 9, 6)).shape != (1, CHANNELS, 9, 6):
        yield "built for 8x8, does not keep the shape of a 9x6 map"


@promise("is built and runs at 256 and 2,048 channels")
def _is_built_wide(subject: Subject) -> Iterator[str]:
    for channels in WIDE:
        with torch.device("meta"):
            shape = subject.build(channels, (7, 7))(torch.empty(2, channels, 7, 7)).shape
        if shape != (2, channels, 7, 7):
            yield f"at {channels} channels gives the shape {tuple(shape)}"


@promise("has the parameters that its card says, all of them registered")
def _has_its_parameters(subject: Subject) -> Iterator[str]:
    card, module = subject.card, subject.build()
    hidden = [name for name, value in _held(module) if isinstance(value, nn.Module | nn.Parameter)]
    if hidden:
        yield f"keeps layers in plain lists or dictionaries, where no optimiser finds them: {', '.join(hidden)}"
    none = bool(card.parameters) and promised(card, subject.options, CHANNELS, MAPS[0]) == 0
    if not any(True for _ in module.parameters()) and not none:
        yield 'has no parameters; if that is meant, say parameters="0" on its card'
    for channels in (*WIDTHS, *WIDE) if card.parameters else ():
        size = MAPS[0]
        with torch.device("meta"):
            found = sum(p.numel() for p in subject.build(channels, size).parameters())
        expected = promised(card, subject.options, channels, size)
        if found != expected:
            yield f"has {found:,} parameters at {channels} channels; its card's formula says {expected:,}"


@promise("gives every parameter a gradient, but those that its card calls inert")
def _every_parameter_learns(subject: Subject) -> Iterator[str]:
    paths = {path for path, _ in subject.build().named_parameters()}
    learned: set[str] = set()
    for seed in range(4):  # one draw may leave a unit dead
        module = subject.redrawn(seed=seed).double()  # where what is 0 comes out near 0
        y = module(_images(8, CHANNELS, 8, 8, seed=seed).double().requires_grad_())
        (y * _images(*y.shape, seed=seed + 9)).mean().backward()
        learned |= {path for path, p in module.named_parameters() if _share(p) > 1e-6}
    inert = {path for path in paths if any(fnmatch(path, rest) for rest in subject.card.inert)}
    if idle := paths - learned - inert:
        yield f"never uses {', '.join(sorted(idle))}"
    if subject.options != ATTENTION.resolve(subject.reference).entry.defaults:
        return  # a card speaks of the defaults: with other options fewer parameters may rest
    if busy := learned & inert:
        yield f"its card calls {', '.join(sorted(busy))} inert, which learn"
    anywhere = {path for choice in _choices(subject) for path, _ in choice.build().named_parameters()}
    for pattern in (*subject.card.inert, *subject.card.no_decay):
        if not any(fnmatch(path, pattern) for path in anywhere):
            yield f"its card names {pattern}, which is no parameter"


@promise("gates within the range on its card, and reaches both halves of it")
def _gates_in_range(subject: Subject) -> Iterator[str]:
    if subject.card.gate is None:
        return
    module: Any = subject.redrawn()
    if not hasattr(module, "gate"):
        yield "its card has a range for a gate, but there is no method gate(x)"
        return
    (low, high), gates = subject.card.gate, module.gate(_images(8, CHANNELS, 8, 8))
    if not low <= gates.min() <= gates.max() <= high:
        yield f"gates from {gates.min():.3f} to {gates.max():.3f} leave the range {low} to {high}"
    at_defaults = subject.options == ATTENTION.resolve(subject.reference).entry.defaults
    if at_defaults and math.isfinite(high) and not gates.min() < (low + high) / 2 < gates.max():
        yield f"gates from {gates.min():.3f} to {gates.max():.3f} never leave one half of {low} to {high}"


@promise("multiplies its input by gate(x), where it has one")
def _multiplies_by_its_gate(subject: Subject) -> Iterator[str]:
    module: Any = subject.redrawn().eval()
    if hasattr(module, "gate"):
        x = _images(2, CHANNELS, 6, 6)
        yield from _unequal(module(x), x * module.gate(x), "its output is not its input times gate(x)")


@promise("computes an image's output without its neighbours in the batch")
def _ignores_neighbours(subject: Subject) -> Iterator[str]:
    module, batch = subject.redrawn().eval(), _images(4, CHANNELS, 8, 8)
    yield from _unequal(module(batch)[:1], module(batch[:1]), "an image's output depends on its neighbours")


@promise("leaves its input as it was")
def _leaves_its_input(subject: Subject) -> Iterator[str]:
    x = _images(2, CHANNELS, 6, 6)
    before = x.clone()
    subject.redrawn()(x)
    if not torch.equal(x, before):
        yield "changes its input in place"


@promise("follows device, dtype and memory format")
def _follows(subject: Subject) -> Iterator[str]:
    x = _images(2, CHANNELS, 6, 6)
    single = subject.redrawn().eval()(x)
    module = subject.redrawn().eval().double()
    double = module(x.double())
    yield from _unequal(double.float(), single, "float64 differs from float32", 1e-3)
    last = module.to(memory_format=torch.channels_last)(x.double().contiguous(memory_format=torch.channels_last))
    yield from _unequal(last, double, "differs for channels_last")  # in float64: layouts round differently
    half = subject.build().eval().bfloat16()(x.bfloat16())
    for given, found in ((torch.float64, double.dtype), (torch.bfloat16, half.dtype)):
        if given != found:
            yield f"gives {found} for {given}"
    moved = module.to("meta")(x.double().to("meta"))
    if moved.device.type != "meta":
        yield f"gives a tensor on {moved.device} for one on meta"


@promise("is saved, loaded and copied")
def _is_saved(subject: Subject) -> Iterator[str]:
    first, second, file = subject.redrawn().eval(), subject.redrawn(seed=9).eval(), io.BytesIO()
    x = _images(2, CHANNELS, 6, 6)
    before = first(x)
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    yield from _unequal(second(x), before, "saved and loaded weights give other outputs", 0)
    twin = copy.deepcopy(first)
    yield from _unequal(twin(x), before, "a deep copy gives other outputs", 0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    yield from _unequal(first(x), before, "a deep copy shares its parameters", 0)


@promise("is exported by torch.export")
def _is_exported(subject: Subject) -> Iterator[str]:
    module, x = subject.redrawn().eval(), _images(2, CHANNELS, 6, 6)
    exported: Any = torch.export.export(module, (x,)).module()
    yield from _unequal(exported(x), module(x), "the exported module gives other outputs")


@promise("repeats itself to the bit in deterministic mode")
def _repeats(subject: Subject) -> Iterator[str]:
    with _deterministic():
        first, second = (_gradients(subject) for _ in range(2))
    if not all(torch.equal(one, two) for one, two in zip(first, second, strict=True)):
        yield "two equal steps give other outputs or gradients"


@promise("has the gradient of what it computes")
def _has_its_gradient(subject: Subject) -> Iterator[str]:
    module = subject.redrawn(8, (4, 3)).double().eval()
    x = _images(2, 8, 4, 3).double().requires_grad_()
    if not torch.autograd.gradcheck(module, (x,), atol=1e-4, rtol=1e-3, raise_exception=False, fast_mode=True):
        yield "its gradient is not that of its output (finite differences in float64)"


def _choices(subject: Subject) -> Iterator[Subject]:
    """The mechanism at its defaults, and with each choice that its options offer."""
    entry = ATTENTION.resolve(subject.reference).entry
    yield subject
    for option, values in entry.choices.items():
        yield from (Subject(str(Ref(entry.name, ((option, value),)))) for value in values)


def _images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _share(parameter: nn.Parameter) -> float:
    """The size of a parameter's gradient relative to its own; 0 if it has none."""
    return 0.0 if parameter.grad is None else (parameter.grad.norm() / parameter.detach().norm()).item()


def _unequal(one: Tensor, two: Tensor, what: str, tolerance: float = 1e-4) -> Iterator[str]:
    one, two = one.detach(), two.detach()
    if one.shape != two.shape:
        yield f"{what}: shapes {tuple(one.shape)} and {tuple(two.shape)}"
        return
    gap, scale = (one - two).abs().max().item(), max(1.0, two.abs().max().item())
    if not gap <= tolerance * scale:
        yield f"{what} (by up to {gap:.3g})"


def _held(module: nn.Module) -> Iterator[tuple[str, object]]:
    """What a module and its parts keep in plain containers."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name.startswith("_") and name in vars(nn.Module()):
                continue
            items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            yield from ((f"{path}.{name}".lstrip("."), item) for item in items)


def _gradients(subject: Subject) -> list[Tensor]:
    module, x = subject.redrawn(), _images(2, CHANNELS, 6, 6).requires_grad_()
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
