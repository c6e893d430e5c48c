"""A mechanism put into a network: at modules that a pattern of paths names, behind, before or instead of them."""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from attnbench.catalogue import foreign
from attnbench.catalogue.cards import Paper
from attnbench.catalogue.places import Place
from attnbench.catalogue.refs import nearest
from attnbench.catalogue.registry import Choice
from attnbench.errors import BadReference
from attnbench.mechanisms import build_attention
from attnbench.networks.grafted import Grafted, ZeroInitialisedResidual
from attnbench.networks.trial import Shape, Trial, is_foreign, plain_maps
from attnbench.networks.within import Shapes, channels_last, observed
from attnbench.seeding import seeded

Init = Literal["own", "identity"]
Position = Literal["behind", "before", "instead"]


def graft(
    model: nn.Module,
    attention: Choice[Paper],
    where: Place,
    image: tuple[int, int, int],
    seed: int = 0,
    position: Position = "behind",
    init: Init = "own",
    trial: Trial | None = None,
) -> dict[str, nn.Module]:
    """Put a mechanism at modules of `model`; returns path -> mechanism.

    Args:
        where: a pattern of module paths, whose group `stage` numbers the stage, and which of the matches are meant.
        image: (channels, height, width) of the input, for one forward on `meta` that finds each site's shape.
        position: behind or before each module; or instead of it, for those that are 3x3 convolutions of equal
            widths, with 2x2 average pooling behind where they had a stride of 2.
        trial: how somebody's own mechanism is tried, once for each shape; None for not at all.
    """
    paths = chosen(_matches(model, where.site), where)
    if position == "instead":
        paths = [path for path in paths if _replaceable(model.get_submodule(path))]
        if not paths or init == "identity":
            what = "cannot start as nothing" if paths else "finds none there"
            raise BadReference(f"{attention} takes the place of 3x3 convolutions of equal widths, and {what}")
    seen = observed(model, image)
    shapes = {path: map_at(model, seen, path, position != "behind") for path in paths}
    return insert(model, attention, shapes, seed, position, init, trial)


def insert(
    model: nn.Module,
    attention: Choice[Paper],
    shapes: Mapping[str, Shape],
    seed: int = 0,
    position: Position = "behind",
    init: Init = "own",
    trial: Trial | None = None,
) -> dict[str, nn.Module]:
    """Put a mechanism at the modules of these paths, whose maps have these shapes; returns path -> mechanism.

    It takes mode, device and dtype of the module that it joins. Nothing is changed before all is made.

    Args:
        shapes: path -> shape, in the order of the network.

    Raises:
        BadReference: there is no such position or start; somebody's own mechanism cannot be trained there.
    """
    _one_of("position", position, get_args(Position))
    _one_of("init", init, get_args(Init))
    grafted = {}
    for path, (channels, height, width) in shapes.items():
        with seeded(seed, "attention", path):
            grafted[path] = build_attention(attention, channels, (height, width))
    if is_foreign(attention):
        _welcome(grafted, shapes, attention, trial)
    ready = {
        path: _eased(grafted[path], attention, path, shapes[path]) if init == "identity" else grafted[path]
        for path in reversed(grafted)  # what lies deepest first: a match may lie inside another one
    }
    for path, mechanism in ready.items():
        module = model.get_submodule(path)
        added = moved(mechanism, torch.get_default_dtype(), weight_of(module, model))
        put(model, path, _joined(module, added, position))
    return grafted


def put(model: nn.Module, path: str, new: nn.Module) -> None:
    """Set a module in place of the one at a path, under every name that the network has for that one."""
    old = model.get_submodule(path)
    for name in [name for name, module in model.named_modules(remove_duplicate=False) if module is old]:
        model.set_submodule(name, new)


def weight_of(*modules: nn.Module) -> Tensor:
    """The first weight in floating point of these modules, which tells device and dtype; an empty tensor for none."""
    weights = (weight for module in modules for weight in module.parameters() if weight.is_floating_point())
    return next(weights, torch.empty(0))


def moved(module: nn.Module, was: torch.dtype, like: Tensor) -> nn.Module:
    """A module whose weights have the dtype `was`, on the device and in the dtype of a tensor.

    Where the dtype stays the same, single weights and tables of another one keep theirs.
    """
    module = module.to(like.device)
    return module if like.dtype == was else module.to(like.dtype)


def _welcome(
    grafted: dict[str, nn.Module], shapes: Mapping[str, Shape], attention: Choice[Paper], trial: Trial | None
) -> None:
    """Hand somebody's own modules maps as published code expects them, and try one for each shape."""
    for module in (theirs for each in grafted.values() for theirs in _foreign(each, attention)):
        module.register_forward_pre_hook(plain_maps)
    for shape, path in {shapes[path]: path for path in reversed(grafted)}.items():
        module = grafted[path]
        nowhere = any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers(), torch.empty(0)))
        if trial is not None and not nowhere:
            trial.of(module, attention, path, shape)


def _foreign(module: nn.Module, attention: Choice[Paper]) -> Iterator[nn.Module]:
    """The modules of a mechanism that are somebody's own: of a composition, those of its parts that are."""
    if is_foreign(attention) and not attention.entry.composed:
        yield module
    elif attention.entry.composed:
        for inner, part in zip(module.get_submodule("parts").children(), attention.parts, strict=True):
            yield from _foreign(inner, part)


def _eased(mechanism: nn.Module, attention: Choice[Paper], path: str, shape: Shape) -> nn.Module:
    """The mechanism, starting as nothing; as it is if it does so by itself: behind a second 0 it would never learn.

    Ours show that on small maps; somebody's own may be made for maps of one size.
    """
    maps = (2, *shape) if is_foreign(attention) else (8, shape[0], min(shape[1], 7), min(shape[2], 7))
    where = f"{attention} at {path} on maps of {'x'.join(map(str, maps))}"
    with seeded(0, "probe"), torch.no_grad(), foreign.running(where):
        x = torch.randn(maps)
        nothing = torch.equal(copy.deepcopy(mechanism).train()(x), x)  # a copy: this moves the statistics of its norms
    return mechanism if nothing else ZeroInitialisedResidual(mechanism)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = nearest(str(value), known)
        raise BadReference(f"{name}={value!r} is not one of {', '.join(map(repr, known))}{near}")


def chosen(found: Mapping[str, int], where: Place) -> list[str]:
    """The paths that lie in the stages that are meant, every n-th of each stage.

    Args:
        found: path -> the number of its stage, in the order of the network.

    Raises:
        BadReference: there is no such stage, or no stage has so many places.
    """
    numbers = sorted(set(found.values()))
    if where.stages is not None:
        missing = sorted(stage for stage in where.stages if stage > 0 and stage not in numbers)
        if missing:
            raise BadReference(f"stages {missing} are not in this backbone, whose sites are in {numbers}")
        meant = {stage if stage > 0 else numbers[-1] + 1 + stage for stage in where.stages}
        found = {path: number for path, number in found.items() if number in meant}
    within = {number: [path for path in found if found[path] == number] for number in numbers}
    chosen = {path for paths in within.values() for path in paths[where.every - 1 :: where.every]}
    if not chosen:
        raise BadReference(f"every={where.every}: no stage has so many places; there are {len(found)} in all")
    return [path for path in found if path in chosen]


def _matches(model: nn.Module, pattern: str) -> dict[str, int]:
    """The paths that match -> the number of their stage, 0 if the pattern names none."""
    try:
        regex = re.compile(pattern)
    except re.error as problem:
        raise BadReference(f"site pattern {pattern!r} is no regular expression: {problem}") from None
    found = {path: match for path, _ in model.named_modules() if (match := regex.fullmatch(path))}
    if not found:
        raise BadReference(f"site pattern {pattern!r} matches no module{likely_sites(model)}")
    return {path: stage_of(match) for path, match in found.items()}


def stage_at(path: str, pattern: str) -> int:
    """The number of the stage that a path lies in, by the pattern of a backbone's stages; 0 for none."""
    parts = path.split(".")
    above = (re.fullmatch(pattern, ".".join(parts[:length])) for length in range(len(parts), 0, -1))
    return next((stage_of(match) for match in above if match), 0)


def stage_of(match: re.Match[str]) -> int:
    """The stage's number: what the group `stage` holds, or N of a group `stageN` that matched; 0 for none."""
    groups = {name: text for name, text in match.groupdict().items() if text is not None}
    named = (name.removeprefix("stage") for name in groups if re.fullmatch(r"stage\d+", name))
    return int(groups.get("stage") or next(named, 0))


def likely_sites(model: nn.Module, limit: int = 12) -> str:
    """Say which kinds of module could be a site: norms and convolutions, numbers along the path left open."""
    kinds: dict[str, None] = {}
    for wanted in (nn.BatchNorm2d, nn.Conv2d):
        for path, module in model.named_modules():
            if isinstance(module, wanted):
                above, dot, last = path.rpartition(".")
                kinds[re.sub(r"\d+", r"\\d+", above.replace(".", r"\.")) + dot.replace(".", r"\.") + last] = None
    shown = [*kinds][:limit] + ["..."] * (len(kinds) > limit)
    return f"; it could be one of {', '.join(shown)}" if shown else ""


def _replaceable(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (3, 3)
        and module.in_channels == module.out_channels
        and module.stride in ((1, 1), (2, 2))
    )


def _joined(module: nn.Module, added: nn.Module, position: Position) -> Grafted:
    if position == "instead":
        halves = isinstance(module, nn.Conv2d) and module.stride == (2, 2)
        return Grafted(added, *([nn.AvgPool2d(2, ceil_mode=True)] if halves else []), replaced=module)
    return Grafted(added, module, plain=1) if position == "before" else Grafted(module, added, plain=0)


def map_at(model: nn.Module, seen: Shapes, path: str, of_input: bool, what: str = "site") -> Shape:
    """(channels, height, width) of a module's output, or input.

    Args:
        what: what the module is to be, in the message.

    Raises:
        BadReference: there are no maps, or they are B H W C.
    """
    if path not in seen:
        raise BadReference(f"{path!r} cannot be a {what}: it takes no part for an image, or gives no maps")
    shape = seen[path][0 if of_input else 1]
    if len(shape) != 4:
        raise BadReference(f"{path!r} cannot be a {what}: it gives {len(shape)} dimensions, not maps B C H W")
    if channels_last(model, seen, path, shape):
        raise BadReference(
            f"{path!r} cannot be a {what}: its maps are B H W C, as linear layers or norms read them, not B C H W"
        )
    return shape[1], shape[2], shape[3]
