"""Whose each parameter of a network is: the backbone's own, a mechanism's or the head's; and in which layer it lies."""

import re
from types import SimpleNamespace
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnbench.catalogue.cards import Backbone
from attnbench.catalogue.places import sites
from attnbench.catalogue.registry import Choice
from attnbench.errors import BadSpec
from attnbench.networks.checkpoints import plain_names
from attnbench.networks.graft import stage_of
from attnbench.networks.within import inside

Part = Literal["backbone", "mechanism", "head"]


def parts(model: nn.Module) -> dict[str, Part]:
    """Name of each parameter -> whose it is.

    Raises:
        BadSpec: the network has no head.
    """
    own, heads = set(plain_names(model).values()), head(model)
    return {
        name: "head" if inside(name, heads) else "backbone" if name in own else "mechanism"
        for name, _ in model.named_parameters()
    }


def head(model: nn.Module) -> tuple[str, ...]:
    """Paths of the classifier: what timm's `get_classifier` gives, or else the last layer outside of mechanisms.

    A layer is a linear one or a 1x1 convolution here, and the last is the one that was registered last.

    Raises:
        BadSpec: the network has none.
    """
    asked: Any = getattr(model, "get_classifier", None)
    found = asked() if callable(asked) else ()
    named = found if isinstance(found, tuple | list) else (found,)
    modules = dict(model.named_modules())
    paths = [path for path, module in modules.items() if path and any(module is each for each in named)]
    if paths := [path for path in paths if next(modules[path].parameters(), None) is not None]:
        return tuple(paths)
    own = set(plain_names(model).values())
    layers = [path for path, module in modules.items() if _is_layer(module) and f"{path}.weight" in own]
    if not layers:
        kind = type(model).__name__
        raise BadSpec({"backbone": f"no head is found in {kind}: no linear layer and no 1x1 convolution at its end"})
    return (layers[-1],)


def norms(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> batch norm of the backbone that keeps running statistics; none of a mechanism's."""
    own = set(plain_names(model).values())
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm) and f"{path}.running_mean" in own
    }


def layers(model: nn.Module, backbone: Choice[Backbone]) -> dict[str, int]:
    """Name of each parameter of the plain network -> the number of its layer; the head's is the largest.

    They are what timm says of its networks (`group_matcher`); else the stem, each stage of the backbone's card with
    what leads to it, and the head with what leads to that.

    Raises:
        BadSpec: the network says neither.
    """
    matcher: Any = getattr(model, "group_matcher", None)
    if callable(matcher):
        from timm.models import group_parameters

        own = {name for name, _ in model.named_parameters()}
        names = {plain: name for plain, name in plain_names(model).items() if name in own}
        alone = SimpleNamespace(named_parameters=lambda: ((plain, None) for plain in names))  # it reads their names
        numbers: dict[str, int] = group_parameters(alone, matcher(coarse=False), reverse=True)
        return {names[plain]: number for plain, number in numbers.items()}
    pattern = sites(backbone).get("stage")
    numbers = _stages(model, pattern) if pattern else {}
    if not numbers:
        raise BadSpec({"layer_decay": f"{backbone} has neither timm's group_matcher nor a site 'stage'; 1.0 works"})
    return _by_stage(model, numbers)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))


def _stages(model: nn.Module, pattern: str) -> dict[str, int]:
    """Path of each stage's module -> its number, 1 for the first."""
    found = {path: match for path, _ in model.named_modules() if (match := re.fullmatch(pattern, path))}
    order = sorted({stage_of(match) for match in found.values()})
    return {path: order.index(stage_of(match)) + 1 for path, match in found.items()}


def _by_stage(model: nn.Module, stages: dict[str, int]) -> dict[str, int]:
    """What lies in a stage, or between it and the one before, has its number; before the first lies the stem."""
    paths, top, found = [*dict(model.named_modules())], max(stages.values()) + 1, {}
    for name, _ in model.named_parameters():
        path = name.rpartition(".")[0]
        within = (number for stage, number in stages.items() if path == stage or inside(path, (stage,)))
        coming = (stages[later] for later in paths[paths.index(path) :] if later in stages)
        number = next(within, None)
        if number is None:
            number = next(coming, top)
            number = 0 if number == 1 and _learns(model, stages) else number
        found[name] = number
    return found


def _learns(model: nn.Module, stages: dict[str, int]) -> bool:
    """Whether the first stage's module has parameters, so that what lies before it is a stem."""
    return any(next(model.get_submodule(path).parameters(), None) is not None for path, n in stages.items() if n == 1)
