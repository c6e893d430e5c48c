"""What a module holds: shapes, parameters, and what is saved of it."""

import copy
import io
from collections.abc import Iterator
from fnmatch import fnmatch

import torch
from torch import nn

from attnbench.catalogue.formula import Size, promised
from attnbench.examine.promises import CHANNELS, MAP, Subject, images, promise, unequal

WIDTHS = (8, 24, 64)
WIDE = (256, 2048)
"""Checked on `meta`, where width costs nothing."""
MAPS: tuple[Size, ...] = (MAP, (7, 5), (1, 1))


@promise("keeps the shape at every width and map, in training too")
def _keeps_the_shape(subject: Subject) -> Iterator[str]:
    for channels, size in [(channels, size) for channels in WIDTHS for size in MAPS]:
        x = images(2, channels, *size).requires_grad_()
        y = subject.build(channels, size)(x)
        where = f"at {channels} channels on {size[0]}x{size[1]}"
        if y.shape != x.shape:
            yield f"{where} gives the shape {tuple(y.shape)} for {tuple(x.shape)}"
            continue
        y.square().mean().backward()
        if not (y.isfinite().all() and x.grad is not None and x.grad.isfinite().all()):
            yield f"{where} gives values or gradients that are not finite"
    if subject.build(CHANNELS, (8, 8)).eval()(images(1, CHANNELS, 9, 6)).shape != (1, CHANNELS, 9, 6):
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
    none = bool(card.parameters) and promised(card, subject.options, CHANNELS, MAP) == 0
    if not any(True for _ in module.parameters()) and not none:
        yield 'has no parameters; if that is meant, say parameters="0" on its card'
    for channels in (*WIDTHS, *WIDE) if card.parameters else ():
        size = MAP
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
        y = module(images(8, CHANNELS, 8, 8, seed=seed).double().requires_grad_())
        (y * images(*y.shape, seed=seed + 9)).mean().backward()
        learned |= {path for path, p in module.named_parameters() if _share(p) > 1e-6}
    inert = {path for path in paths if any(fnmatch(path, rest) for rest in subject.card.inert)}
    if idle := paths - learned - inert:
        yield f"never uses {', '.join(sorted(idle))}"
    if not subject.at_defaults:
        return  # a card speaks of the defaults: with other options fewer parameters may rest
    if busy := learned & inert:
        yield f"its card calls {', '.join(sorted(busy))} inert, which learn"
    anywhere = {path for choice in subject.choices for path, _ in choice.build().named_parameters()}
    for pattern in (*subject.card.inert, *subject.card.no_decay):
        if not any(fnmatch(path, pattern) for path in anywhere):
            yield f"its card names {pattern}, which is no parameter"


@promise("holds each of its layers and parameters under one name")
def _holds_each_once(subject: Subject) -> Iterator[str]:
    module = subject.build()
    for listed in (module.named_modules, module.named_parameters, module.named_buffers):
        names: dict[int, list[str]] = {}
        for path, held in listed(remove_duplicate=False):
            names.setdefault(id(held), []).append(path)
        yield from (f"{' and '.join(paths)} are one" for paths in names.values() if len(paths) > 1)


@promise("is saved, loaded and copied")
def _is_saved(subject: Subject) -> Iterator[str]:
    first, second, file = subject.redrawn().eval(), subject.redrawn(seed=9).eval(), io.BytesIO()
    x = images(2, CHANNELS, 6, 6)
    before = first(x)
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    yield from unequal(second(x), before, "saved and loaded weights give other outputs", 0)
    twin = copy.deepcopy(first)
    yield from unequal(twin(x), before, "a deep copy gives other outputs", 0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    yield from unequal(first(x), before, "a deep copy shares its parameters", 0)


def _share(parameter: nn.Parameter) -> float:
    """The size of a parameter's gradient relative to its own; 0 if it has none."""
    return 0.0 if parameter.grad is None else (parameter.grad.norm() / parameter.detach().norm()).item()


def _held(module: nn.Module) -> Iterator[tuple[str, object]]:
    """What a module and its parts keep in plain containers."""
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name.startswith("_") and name in vars(nn.Module()):
                continue
            items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
            yield from ((f"{path}.{name}".lstrip("."), item) for item in items)
