"""Networks: a plain backbone, and a mechanism in it at the sites that the backbone's card names."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import nn

from attnbench.catalogue.cards import Backbone, Paper
from attnbench.catalogue.places import SE, Place, built_in_sentence, exchange_mistake, is_placed, place, sites
from attnbench.catalogue.refs import nearest
from attnbench.catalogue.registry import ATTENTION, BACKBONES, Choice
from attnbench.console import say
from attnbench.errors import BadReference
from attnbench.networks.exchange import exchange
from attnbench.networks.graft import Init, Position, graft, likely_sites
from attnbench.networks.trial import Trial
from attnbench.networks.within import accepted, attention_within
from attnbench.seeding import seeded
from attnbench.spec.run import RunSpec


def network(
    backbone: str = "resnet50",
    attention: str = "none",
    classes: int = 1000,
    seed: int = 0,
    in_channels: int = 3,
    image_size: int | None = None,
    site: str | None = None,
    stages: tuple[int, ...] | None = None,
    every: int | None = None,
    init: Init = "own",
) -> nn.Module:
    """Build a backbone with a mechanism in it; B C H W images in, B `classes` logits out.

    For one `seed` the backbone's initial weights are the same whatever the mechanism is: backbone and each
    grafted module draw from streams of their own. Pretrained weights are loaded before anything is grafted.

    Args:
        site, stages, every: where the mechanism goes, as in RunSpec.
        init: `identity` lets the mechanism start as doing nothing.

    Raises:
        BadReference: an unknown name, option or site, or a value the module refuses.
    """
    mechanism, plain = ATTENTION.resolve(attention), BACKBONES.resolve(backbone)
    if site == SE and (wrong := exchange_mistake(mechanism, plain)):
        raise BadReference(f"site {wrong}")
    where = place(mechanism, site, stages, every) if is_placed(mechanism, site) else None
    size = image_size or plain.card.image_size
    return _assembled(plain, mechanism, where, (in_channels, size, size), classes, seed, init, Trial())


def network_of(spec: RunSpec, classes: int, channels: int, size: int, trial: Trial | None = None) -> nn.Module:
    """The network of a run, with its initial weights, for images of `channels` channels and `size` pixels a side.

    Args:
        trial: how somebody's own mechanism is tried before it is trained; None for a network that has been.
    """
    found = spec.resolved
    image, seed = (channels, size, size), spec.seed_of("init")
    return _assembled(found.backbone, found.attention, found.place, image, classes, seed, spec.init, trial)


def fresh_network(spec: RunSpec, classes: int, channels: int, size: int, device: torch.device) -> nn.Module:
    """The network of a run that is to be trained on `device`: tried first; what its backbone holds is said."""
    model = network_of(spec, classes, channels, size, Trial(min(2, spec.batch_size), device))
    if told := built_in_sentence(str(spec.resolved.backbone), built_in(model)):
        say(told)
    return model


def built_in(model: nn.Module) -> dict[str, str]:
    """Path -> class of the attention that a network's backbone was built with, but what was exchanged."""
    found: dict[str, str] = getattr(model, "built_in", {})
    return found


def position(attention: Choice[Paper], site: str) -> Position:
    """Whether a mechanism goes behind what a site names, before it, or takes its place."""
    if attention.placed.kind == "R" and (site == "conv" or site.startswith("pattern:")):
        return "instead"
    return "before" if site in ("pre", "conv") else "behind"


def site_pattern(known: Mapping[str, str], site: str, backbone: str, hint: str = "") -> str:
    """The pattern of module paths for a site: a key of `known`, or `pattern:REGEX`; `hint` ends the message.

    Raises:
        BadReference: the backbone has no such site.
    """
    if site.startswith("pattern:"):
        return site.removeprefix("pattern:")
    if site in known:
        return known[site]
    if not known:
        raise BadReference(f"site {site!r}: backbone {backbone!r} has no named sites; give pattern:REGEX{hint}")
    names = ", ".join(known)
    raise BadReference(
        f"site {site!r}: backbone {backbone!r} has the sites {names}{nearest(site, known)} (or pattern:REGEX)"
    )


def _assembled(
    backbone: Choice[Backbone],
    attention: Choice[Paper],
    where: Place | None,
    image: tuple[int, int, int],
    classes: int,
    seed: int,
    init: Init,
    trial: Trial | None,
) -> nn.Module:
    with seeded(seed, "backbone"):
        model: nn.Module = backbone.construct(classes, image[0])
    seen = accepted(backbone, model, image, classes)
    held = vars(model)["built_in"] = attention_within(model, seen)
    if where is None:
        return model
    if where.site == SE:
        for path in exchange(model, backbone, attention, where, seen, seed, init, trial):
            del held[path]
        return model
    known = sites(backbone)
    pattern = site_pattern(known, where.site, str(backbone), "" if known else likely_sites(model))
    there = dataclasses.replace(where, site=pattern)
    graft(model, attention, there, image, seed, position(attention, where.site), init, trial)
    return model
