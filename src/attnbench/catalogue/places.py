"""Where in a backbone a mechanism goes: as the user says, as its paper says, or its kind's own place; what is there."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from attnbench.catalogue.cards import Backbone, Paper
from attnbench.catalogue.registry import Choice


@dataclass(frozen=True)
class Place:
    """Where in a backbone a mechanism goes."""

    site: str
    stages: tuple[int, ...] | None = None
    """Counted from 1, or from -1 backwards; None for all."""
    every: int = 1


SE = "se"
"""The place of squeeze-excitation that a backbone was built with: there a mechanism takes its place."""


def is_placed(attention: Choice[Paper], site: str | None) -> bool:
    """Whether something is done to a network: `none` does something only where it takes attention away."""
    return attention.entry.name != "none" or site == SE


def exchange_mistake(attention: Choice[Paper], backbone: Choice[Backbone] | None) -> str:
    """Why a mechanism cannot take the place of built-in squeeze-excitation, as far as cards tell; empty if it can."""
    if attention.placed.kind == "R":
        return f"se: {attention} takes the place of a convolution, not of a gate"
    if backbone is not None and backbone.entry.builtin and backbone.card.sites:
        return f"se: {backbone} was built without squeeze-excitation; networks of torchvision and timm have some"
    return ""


def place(
    attention: Choice[Paper],
    site: str | None = None,
    stages: tuple[int, ...] | None = None,
    every: int | None = None,
) -> Place:
    """Where a mechanism goes; `site="paper"` takes the paper's place, and its stages unless others are given."""
    card = attention.placed
    if site != "paper":
        return Place(site or card.site, stages, every or 1)
    return Place(card.paper_site or card.site, stages or card.paper_stages or None, every or card.paper_every)


def sites(backbone: Choice[Backbone]) -> Mapping[str, str]:
    """The places in a backbone, kind -> pattern: those of its option `name`'s family, or else its card's."""
    name = str(backbone.settings.get("name", ""))
    families = backbone.card.families.items()
    return next((found for pattern, found in families if re.fullmatch(pattern, name)), backbone.card.sites)


def built_in_sentence(backbone: str, found: Mapping[str, str]) -> str:
    """Say that a backbone holds attention of its own; `found` is path -> class of it. Nothing where there is none."""
    if not found:
        return ""
    kinds = ", ".join(f"{number} {kind}" for kind, number in Counter(found.values()).items())
    return f"{backbone} holds attention of its own, in the arm none too: {kinds}, first at {next(iter(found))}"
