"""A mechanism put into anybody's network: where it can go, and the plain network back."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnbench.catalogue.cards import Paper
from attnbench.catalogue.refs import nearest
from attnbench.catalogue.registry import ATTENTION, Choice
from attnbench.errors import AttnbenchError, BadReference
from attnbench.networks.exchange import replace
from attnbench.networks.graft import Init, Position, insert, likely_sites, map_at, moved, put, weight_of
from attnbench.networks.grafted import Grafted
from attnbench.networks.trial import Shape, Trial
from attnbench.networks.within import Shapes, attention_within, channels_last, inside, watched
from attnbench.seeding import seeded

At = str | Sequence[str] | Callable[[str, nn.Module], bool]
BUILT_IN = "built-in"
"""The name of all places of attention that a network was built with."""


@dataclass(frozen=True)
class Site:
    """Places in a network that are alike."""

    at: str
    """A pattern of their paths, as `graft` takes it."""
    kind: str
    """block: the last norm of each block; post: behind each block; built-in: attention that is there already."""
    paths: tuple[str, ...]
    shapes: tuple[Shape, ...]
    """Channels, height and width of the maps at each path, for the example."""

    def __str__(self) -> str:
        sizes = ", ".join("x".join(map(str, shape)) for shape in dict.fromkeys(self.shapes))
        return f"{self.kind:<9} {self.at}  ({len(self.paths)}: {sizes})"


def graft(
    model: nn.Module,
    attention: str,
    at: At | None = None,
    *,
    example: Any,
    position: Position | None = None,
    init: Init | None = None,
    seed: int = 0,
) -> nn.Module:
    """Put a mechanism into a network, in place, and give the network back.

    Behind or before modules, with `init="identity"`, its outputs are what they were, bit for bit, until it is trained.

    Args:
        attention: a mechanism: a name, name(option=1), or package.module:Class; `none` takes built-in attention away.
        at: a pattern of module paths, a list of paths, a function of path and module, or `built-in` for the attention
            that the network was built with, which the mechanism replaces; None for the first of `sites`.
        example: what the network takes: a tensor, a list (as detectors take), a tuple of arguments, a mapping of named
            ones; or (channels, height, width) for one image of zeros. One forward finds the shape at each place.
        position: `behind` a module, `before` it or, where its maps keep their shape, `instead` of it, as at `built-in`.
        init: `identity` starts as doing nothing, `own` as the paper says; None is `own` at `built-in`, else `identity`.
        seed: of the mechanism's initial weights.

    Raises:
        BadReference: nothing there by that name, no map there, an example that does not run, an unknown word.
    """
    choice, seen = ATTENTION.resolve(attention), _seen(model, example)
    if at == BUILT_IN:
        return _exchanged(model, choice, seen, seed, position or "instead", init or "own")
    if choice.entry.name == "none":
        raise BadReference(f"none puts nothing anywhere; with at={BUILT_IN!r} it takes attention away")
    paths = _paths(model, at, seen)
    position = position or "behind"
    shapes = {path: _map_at(model, seen, path, position != "behind") for path in paths}
    if position == "instead" and (wider := [path for path in paths if seen[path][0] != seen[path][1]]):
        raise BadReference(f"{wider[0]!r} changes the shape of its maps, so that no mechanism can take its place")
    insert(model, choice, shapes, seed, position, init or "identity", Trial())
    return model


def sites(model: nn.Module, example: Any) -> list[Site]:
    """Sensible places for a mechanism, the usual one first; `example` as `graft` takes it.

    A block is the innermost kind of module that occurs at least twice, holds a convolution and gives maps.
    """
    seen = _seen(model, example)
    return [
        Site(pattern, kind, tuple(paths), tuple(_map_at(model, seen, path) for path in paths))
        for kind, found in _groups(model, seen).items()
        for pattern, paths in _alike(found).items()
    ]


def ungraft(model: nn.Module) -> nn.Module:
    """Take every mechanism out again, in place: the plain network, with the weights that its own layers have now.

    What a mechanism stood instead of comes back with the weights that it had then, and with the mode, the device and
    the dtype that the network has now.
    """
    found = {path: module for path, module in model.named_modules() if isinstance(module, Grafted)}
    for path, module in reversed(found.items()):
        plain = module.original
        while isinstance(plain, Grafted):  # at one place more than once
            plain = plain.original
        if module.plain is None:
            plain = moved(plain, weight_of(plain).dtype, weight_of(module, model)).train(module.training)
        put(model, path, ungraft(plain))  # what was replaced may hold mechanisms too
    return model


def _seen(model: nn.Module, example: Any) -> Shapes:
    """The shapes of every module's first input and output, from one forward of the example in evaluation mode."""
    if isinstance(example, tuple) and all(isinstance(part, int) for part in example):
        example = next(model.parameters(), torch.empty(0)).new_zeros(1, *example)
    try:
        with seeded(0, "probe"):
            return watched(model, lambda: _forward(model, example))
    except AttnbenchError:
        raise
    except Exception as problem:
        what = " ".join(str(problem).split())[:200]
        raise BadReference(
            f"the example does not run through {type(model).__name__}: {type(problem).__name__}: {what}; give what "
            "the network takes: a tensor, a list of images, a tuple of arguments, or a mapping of named ones"
        ) from problem


def _forward(model: nn.Module, example: Any) -> Any:
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


def _paths(model: nn.Module, at: At | None, seen: Shapes) -> list[str]:
    """The paths of the modules that are meant, each under its first name, in the order of the network."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if at is None:
        groups = _groups(model, seen)
        if not (usual := groups["block"] or groups["post"]):
            raise BadReference(f"no block is found in {type(model).__name__}; name a place{likely_sites(model)}")
        return usual
    if isinstance(at, str):
        try:
            found = [path for path in modules if path == at or re.fullmatch(at, path)]
        except re.error as problem:
            raise BadReference(f"at={at!r} is no regular expression: {problem}") from None
        missing = f"at={at!r} matches no module{likely_sites(model)}"
    elif callable(at):
        found = [path for path, module in modules.items() if path and at(path, module)]
        missing = f"the function at= chooses no module{likely_sites(model)}"
    else:
        found = list(at)
        wrong = [path for path in found if path not in modules]
        missing = f"no module is called {wrong[0]!r}{nearest(wrong[0], modules)}" if wrong else "at=[] names no module"
        found = [] if wrong else found
    if not found:
        raise BadReference(missing)
    if "" in found:
        raise BadReference("the network as a whole is no place; name modules inside it")
    meant = {modules[path] for path in found}
    return [path for path, module in model.named_modules() if module in meant]


def _map_at(model: nn.Module, seen: Shapes, path: str, of_input: bool = False) -> Shape:
    """(channels, height, width) of the maps at a place, or what would be one."""
    try:
        return map_at(model, seen, path, of_input, "place")
    except BadReference as problem:
        raise BadReference(f"{problem}{likely_sites(model)}") from None


def _groups(model: nn.Module, seen: Shapes) -> dict[str, list[str]]:
    """Kind of place -> paths, in the order of the network."""
    kinds, seen = Counter(type(module) for module in model.modules()), _without_grafts(model, seen)
    found = [
        path
        for path, module in model.named_modules()
        if path and kinds[type(module)] > 1 and _is_block(module) and _gives_maps(model, seen, path)
    ]
    gates = _built_in(model, seen)
    blocks = [path for path in found if path not in gates or not inside(path, found)]
    inner = [path for path in blocks if not any(inside(other, (path,)) for other in blocks)]
    norms = [norm for path in inner if (norm := _last_norm(model, path, seen))]
    return {"block": norms, "post": inner, BUILT_IN: gates}


def _built_in(model: nn.Module, seen: Shapes) -> list[str]:
    """The paths of the attention that gates maps."""
    return [path for path in attention_within(model, seen) if _gives_maps(model, seen, path)]


def _without_grafts(model: nn.Module, seen: Shapes) -> Shapes:
    """The shapes at the modules of the network itself, without those of mechanisms that stand beside them."""
    named = model.named_modules()
    beside = {path: part for path, part in named if isinstance(part, Grafted) and part.plain is not None}
    added = [f"{path}.{place}" for path, part in beside.items() for place in range(len(part)) if place != part.plain]
    return {path: shapes for path, shapes in seen.items() if path not in added and not inside(path, added)}


def _is_block(module: nn.Module) -> bool:
    """Whether something holds a convolution and another layer of weights: no unit of a convolution and its norm."""
    layers = [type(part) for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    return nn.Conv2d in layers and len(layers) > 1 and not isinstance(module, nn.Sequential)


def _last_norm(model: nn.Module, path: str, seen: Shapes) -> str | None:
    """The path of the last norm over maps as large as what the block gives."""
    norms = [
        f"{path}.{name}"
        for name, part in model.get_submodule(path).named_modules()
        if name and "Norm" in type(part).__name__ and seen.get(f"{path}.{name}", ((), ()))[1] == seen[path][1]
        and not re.search(r"downsample|shortcut", name) and _gives_maps(model, seen, f"{path}.{name}")
    ]  # fmt: skip
    return norms[-1] if norms else None


def _gives_maps(model: nn.Module, seen: Shapes, path: str) -> bool:
    """Whether a module gives maps B C H W of more than one pixel."""
    given = seen.get(path, ((), ()))[1]
    return len(given) == 4 and given[2] * given[3] > 1 and not channels_last(model, seen, path, given)


def _exchanged(
    model: nn.Module, choice: Choice[Paper], seen: Shapes, seed: int, position: Position, init: Init
) -> nn.Module:
    """The network with its built-in attention replaced by a mechanism, or taken away."""
    if position != "instead":
        raise BadReference(f"at={BUILT_IN!r} replaces; for position={position!r} name the paths, as sites() gives them")
    paths = _built_in(model, _without_grafts(model, seen))
    if not paths:
        kind = type(model).__name__
        raise BadReference(f"{kind} was built without attention that gates maps B C H W{likely_sites(model)}")
    replace(model, choice, {path: _map_at(model, seen, path) for path in paths}, seed, init, Trial())
    return model


def _alike(paths: Sequence[str]) -> dict[str, list[str]]:
    """Pattern -> paths that differ in numbers alone."""
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(re.sub(r"\d+", r"\\d+", re.escape(path)), []).append(path)
    return found
