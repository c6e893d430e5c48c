"""The texts of a run as what they ask for: references, place, augmentation; and what is wrong with them."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attnbench.catalogue.cards import Backbone, Paper, Source
from attnbench.catalogue.places import SE, Place, exchange_mistake, is_placed, place, sites
from attnbench.catalogue.refs import nearest
from attnbench.catalogue.registry import ATTENTION, BACKBONES, DATASETS, Choice, Registry
from attnbench.errors import BadReference
from attnbench.spec import finetuning

AUGMENTATIONS = ("crop", "flip", "dihedral", "cutout")
Constants = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, in 0..1."""


@dataclass(frozen=True)
class Resolved:
    """A run's texts as what they ask for."""

    dataset: Choice[Source]
    attention: Choice[Paper]
    backbone: Choice[Backbone]
    place: Place | None
    """Where the mechanism goes; None without one."""
    image_size: int | None
    """Side in pixels: the run's own, or else the data set's; None where only the files tell."""
    augmentations: tuple[str, ...]
    """In the order in which they are applied."""
    constants: Constants | None
    """The normalising constants that were given; None for those of the training images."""
    weights: finetuning.Weights

    @classmethod
    def of(cls, fields: Mapping[str, Any], choices: Mapping[str, Any]) -> "Resolved":
        """Read the fields of a run, of which nothing is wrong, its references having been looked up already."""
        attention, card = choices["attention"], choices["dataset"].card
        placed = is_placed(attention, fields["site"])
        return cls(
            **choices,
            place=place(attention, fields["site"], fields["stages"], fields["every"]) if placed else None,
            image_size=fields["image_size"] or card.image_size or None,
            augmentations=tuple(augmentations(fields["augment"])),
            constants=normalise_constants(fields["normalise"]),
            weights=finetuning.Weights.of(fields["weights"]),
        )

    def cards(self) -> dict[str, dict[str, Any]]:
        """The cards of the three as plain values, for a record, with the place that the mechanism has by itself."""
        attention = {**self.attention.entry.about(), "site": self.attention.placed.site}
        return {"attention": attention, "backbone": self.backbone.entry.about(), "dataset": self.dataset.entry.about()}


def augmentations(text: str) -> list[str]:
    """The augmentations named in `crop+flip+cutout`, in the order in which they are applied."""
    asked = [] if text == "none" else text.split("+")
    unknown = [name for name in asked if name not in AUGMENTATIONS]
    if unknown:
        instead = nearest(unknown[0], AUGMENTATIONS)
        known = ", ".join(map(repr, ("none", *AUGMENTATIONS)))
        raise ValueError(f"{unknown[0]!r} is not one of {known}, joined by +{instead}")
    return [name for name in AUGMENTATIONS if name in asked]


def normalise_constants(text: str) -> Constants | None:
    """Mean and standard deviation per channel from `M M M / S S S`; None for `train`."""
    if text == "train":
        return None
    try:
        mean, std = (tuple(float(word) for word in part.split()) for part in text.split("/"))
    except ValueError:
        raise ValueError(f'{text!r} is neither "train" nor "MEAN ... / STD ..."') from None
    if len(mean) != len(std) or not all(map(math.isfinite, mean)) or not all(0 < s < math.inf for s in std):
        raise ValueError(f"{text!r} needs finite means and as many positive standard deviations")
    if not all(0 <= m <= 1 for m in mean) or not all(s <= 1 for s in std):
        raise ValueError(f"{text!r} is not of images in 0..1; divide what is given for 0..255 by 255")
    return mean, std


_REGISTRIES: dict[str, Registry[Any]] = {"dataset": DATASETS, "attention": ATTENTION, "backbone": BACKBONES}


def examined(values: Mapping[str, Any], found: dict[str, str]) -> tuple[dict[str, str], dict[str, Choice[Any]]]:
    """What is wrong with the fields of a run, and what its references ask for: the only place that looks them up.

    Args:
        found: fields that are wrong already, with what is wrong with them.
    """
    choices: dict[str, Choice[Any]] = {}
    for name in [name for name in _REGISTRIES if name in values and name not in found]:
        try:
            choices[name] = _REGISTRIES[name].resolve(values[name])
        except BadReference as problem:
            found = {**found, name: str(problem)}
    sound = {name: value for name, value in values.items() if name not in found}
    return found | _conflicts(sound, choices), choices


def _conflicts(sound: Mapping[str, Any], choices: Mapping[str, Choice[Any]]) -> dict[str, str]:
    """What texts and pairs of fields say wrongly, where each field has at least the right type."""
    more: dict[str, str] = {}
    readers: dict[str, Callable[[str], object]] = {"augment": augmentations, "normalise": normalise_constants}
    for name, read in readers.items():
        try:
            read(sound.get(name, "none" if name == "augment" else "train"))
        except ValueError as problem:
            more[name] = str(problem)
    attention, dataset = choices.get("attention") or ATTENTION.resolve("none"), choices.get("dataset")
    backbone = choices.get("backbone")
    more |= finetuning.mistakes(sound, pretrained=backbone is not None and bool(backbone.settings.get("pretrained")))
    if wrong := _site_mistake(attention, sound.get("site"), backbone):
        more["site"] = wrong
    if sound.get("init") == "identity" and attention.placed.kind == "R":
        more["init"] = f"identity: {attention} takes the place of a convolution and cannot start as nothing"
    no_val = dataset is not None and "val" not in dataset.card.splits and not sound.get("val_fraction")
    for name, value in (("selection", "best-val"), ("evaluate", "val")):
        if sound.get(name) == value and no_val:
            more[name] = f"{value} needs validation images; give val_fraction, as in val_fraction=0.1"
    if nothing := _vary_mistake(sound, dataset):
        more["vary"] = nothing
    warmup, epochs = sound.get("warmup", 0), sound.get("epochs", 1)
    if warmup > epochs and "epochs" in sound:
        more["warmup"] = f"{warmup} epochs of warm-up are more than {epochs} epochs of training"
    return more


def cuts_test(dataset: Choice[Source]) -> bool:
    """Whether a data set has no test images of its own, so that ours are cut from the rest."""
    folder = dataset.card.folders.get("test")
    return dataset.card.splits == ("all",) or (folder is not None and not dataset.options.get(folder))


def _vary_mistake(sound: Mapping[str, Any], dataset: Choice[Source] | None) -> str:
    """What a single source of chance lacks to have any effect."""
    vary = sound.get("vary", "all")
    if vary == "augment" and sound.get("augment") == "none":  # a rule of a study may leave it to the base
        return "augment: nothing is drawn with augment none"
    shares = ("val_fraction", "train_limit", "test_limit")
    cut = any(sound.get(name) for name in shares) or sound.get("train_fraction", 1.0) < 1
    if vary == "split" and dataset is not None and not cut and not cuts_test(dataset):
        return f"split: {dataset} comes with its own splits; give val_fraction, train_fraction or a limit"
    return ""


def _site_mistake(attention: Choice[Paper], site: str | None, backbone: Choice[Backbone] | None) -> str:
    if attention.entry.name == "none" and site is None:
        return ""
    if site == SE:
        return exchange_mistake(attention, backbone)
    if site is not None and site.startswith("pattern:"):
        try:
            re.compile(site.removeprefix("pattern:"))
        except re.error as problem:
            return f"{site!r} holds no regular expression: {problem}"
        return ""
    if backbone is None:
        return ""
    known, wanted = sites(backbone), place(attention, site).site
    if wanted in known or (not known and site is None):  # what could be a site there is seen when it is built
        return ""
    if not known:
        meant = nearest(wanted, [SE])
        return f"{site!r} is not known in {backbone}; give pattern:REGEX, of the paths of its modules{meant}"
    names = ", ".join(map(repr, (*known, "paper")))
    return f"{wanted!r} is not one of {names} or pattern:REGEX{nearest(wanted, known)}"
