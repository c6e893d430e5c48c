"""What every backbone promises, so that mechanisms can be compared in it."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn

from attnbench.catalogue.cards import Backbone
from attnbench.catalogue.places import sites
from attnbench.catalogue.registry import Choice
from attnbench.examine.promises import DoesNotApply, images, unequal
from attnbench.networks.network import network
from attnbench.seeding import seeded

CLASSES = 5


def _built(backbone: Choice[Backbone], channels: int = 3, seed: int = 0) -> nn.Module:
    with seeded(seed, "conformance"):
        model: nn.Module = backbone.construct(CLASSES, channels)
    return model


def _batch(backbone: Choice[Backbone], count: int, channels: int = 3) -> torch.Tensor:
    side = backbone.card.image_size
    return images(count, channels, side, side)


def _gives_logits(backbone: Choice[Backbone]) -> Iterator[str]:
    for channels in (1, 3):
        found = _built(backbone, channels)(_batch(backbone, 2, channels))
        if not isinstance(found, torch.Tensor) or found.shape != (2, CLASSES):
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            yield f"for 2 images of {channels} channels and {CLASSES} classes it gives {shape}, not (2, {CLASSES})"


def _ignores_neighbours(backbone: Choice[Backbone]) -> Iterator[str]:
    model, batch = _built(backbone).double().eval(), _batch(backbone, 3).double()
    yield from unequal(model(batch)[:1], model(batch[:1]), "an image's logits depend on its neighbours")


def _starts_from_its_stream(backbone: Choice[Backbone]) -> Iterator[str]:
    one, again, other = (_built(backbone, seed=seed).state_dict() for seed in (0, 0, 1))
    if any(not torch.equal(one[name], again[name]) for name in one):
        yield "built twice from one random stream, it starts from other weights"
    if all(torch.equal(one[name], other[name]) for name in one):
        yield "built from two random streams, it starts from the same weights: seeds repeat nothing"


def _every_parameter_learns(backbone: Choice[Backbone]) -> Iterator[str]:
    model = _built(backbone)
    model(_batch(backbone, 4)).square().mean().backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        yield f"never uses {', '.join(idle[:5])}"


def _is_copied(backbone: Choice[Backbone]) -> Iterator[str]:
    model, batch = _built(backbone).eval(), _batch(backbone, 2)
    twin = _built(backbone, seed=1).eval()
    twin.load_state_dict(model.state_dict())
    yield from unequal(twin(batch), model(batch), "its weights do not carry over to another one of it", 1e-5)
    yield from unequal(copy.deepcopy(model)(batch), model(batch), "a deep copy gives other logits", 1e-5)


def _has_sites(backbone: Choice[Backbone]) -> Iterator[str]:
    known = sites(backbone)
    if not known:
        raise DoesNotApply("its card names no sites; say pattern:REGEX where a mechanism goes")
    for site in known:
        model = network(str(backbone), "se", CLASSES, site=site)
        if model(_batch(backbone, 2)).shape != (2, CLASSES):
            yield f"with a mechanism at {site} it no longer gives logits"


PROMISES: dict[str, Callable[[Choice[Backbone]], Iterator[str]]] = {
    "gives one logit for each class, of grey and of colour images": _gives_logits,
    "computes an image's logits without its neighbours in the batch": _ignores_neighbours,
    "starts from the weights that its random stream gives": _starts_from_its_stream,
    "gives every parameter a gradient": _every_parameter_learns,
    "is saved, loaded and copied": _is_copied,
    "takes a mechanism at every site that its card names": _has_sites,
}
"""What is promised, as a sentence -> the function that yields what breaks it."""
