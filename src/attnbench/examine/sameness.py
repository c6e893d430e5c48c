"""Proof that two runs differ in the mechanism only: same recipe, same modules, same initial values bit for bit."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.catalogue.places import built_in_sentence
from attnbench.networks.grafted import Grafted
from attnbench.networks.network import built_in, network_of
from attnbench.networks.trial import Trial
from attnbench.spec.arm import FIELDS
from attnbench.spec.run import LATER, RunSpec, canonical
from attnbench.store.runs import Store
from attnbench.training.starting import load_initial

_OF_THE_MECHANISM = (*FIELDS, "versions")


@dataclass(frozen=True)
class Sameness:
    """What two runs share, and what differs besides the mechanism: nothing, if they are arms of one comparison."""

    fields: int
    """Fields of the recipe that are equal."""
    modules: int
    """Modules of the backbone that are equal in both networks and in the plain one."""
    values: int
    """Their initial values, equal bit for bit."""
    replaced: tuple[str, ...]
    """Modules whose place a mechanism takes, or nothing."""
    differences: tuple[str, ...]
    built_in: str
    """What attention the backbone holds by itself in one of them, as a sentence; empty for none."""


def same(one: RunSpec, two: RunSpec, store: Store | None = None) -> Sameness:
    """Build both networks and the plain one, and compare everything that is not the mechanism.

    Args:
        store: where a run is that initial weights come from; None for the default.
    """
    store = store or Store.default()
    recipes = [_recipe(spec) for spec in (one, two)]
    unequal = [name for name in recipes[0] if recipes[0][name] != recipes[1][name]]
    differences = [f"{name}: {recipes[0][name]!r} and {recipes[1][name]!r}" for name in unequal]
    if one.resolved.place and two.resolved.place and one.mechanism_lr != two.mechanism_lr:
        differences.append(f"mechanism_lr: {one.mechanism_lr} and {two.mechanism_lr}")
    built = [_network(spec, store) for spec in (one, two)]
    networks = [dict(_backbone(model)) for model in built]
    without = _network(dataclasses.replace(one, attention="none", site=None, init="own"), store)
    plain = dict(_backbone(without))
    for spec, parts in zip((one, two), networks, strict=True):
        differences += [f"{spec.attention}: {path} is not in the plain network" for path in parts if path not in plain]
        for path in [path for path in plain if path in parts]:
            differences += [f"{spec.attention}: {path} {what}" for what in _unequal(parts[path], plain[path])]
    shared = [path for path in plain if all(path in parts for parts in networks)]
    replaced = [path for path in plain if path not in shared]
    return Sameness(
        fields=len(recipes[0]) - len(unequal),
        modules=len(shared),
        values=sum(tensor.numel() for path in shared for tensor in _own(plain[path]).values()),
        replaced=tuple(path for path in replaced if path.rpartition(".")[0] not in replaced),
        differences=tuple(differences),
        built_in=built_in_sentence(str(one.resolved.backbone), {**built_in(built[0]), **built_in(built[1])}),
    )


def _recipe(spec: RunSpec) -> dict[str, Any]:
    """Everything that decides a run but the mechanism; the seed among it, which decides batches and initial values."""
    form: dict[str, Any] = {**LATER, **canonical(spec)}
    kept = {name: value for name, value in form.items() if name not in _OF_THE_MECHANISM}
    return kept | {f"{name}'s version": v for name, v in form["versions"].items() if name != "attention"}


def _network(spec: RunSpec, store: Store) -> nn.Module:
    """A run's network as it starts; 10 classes and 32 px where only the data's files tell: it is the same question."""
    card = spec.resolved.dataset.card
    model = network_of(spec, card.classes or 10, card.channels, spec.resolved.image_size or 32, Trial())
    load_initial(spec, model, store)
    return model


def _backbone(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module that is no mechanism, under the path that it has in the plain network."""
    while isinstance(model, Grafted):
        if model.plain is None:
            return
        model = model[model.plain]
    yield path, model
    for name, child in model.named_children():
        yield from _backbone(child, f"{path}.{name}".lstrip("."))


def _unequal(one: nn.Module, two: nn.Module) -> Iterator[str]:
    if type(one) is not type(two) or one.extra_repr() != two.extra_repr():
        yield f"is {type(one).__name__}({one.extra_repr()}) and {type(two).__name__}({two.extra_repr()})"
    mine, others = _own(one), _own(two)
    if mine.keys() != others.keys():
        yield f"holds {', '.join(mine)} and {', '.join(others)}"
    yield from (
        f"starts with another {name}"
        for name in mine.keys() & others.keys()
        if not torch.equal(mine[name], others[name])
    )


def _own(module: nn.Module) -> dict[str, Tensor]:
    return dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
