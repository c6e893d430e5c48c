"""Recipes: presets of a run's fields, resolved before anything is hashed."""

import dataclasses
from typing import Any

from attnbench.catalogue.refs import nearest
from attnbench.catalogue.registry import DATASETS
from attnbench.errors import BadReference
from attnbench.spec.run import RunSpec

RECIPES: dict[str, dict[str, Any]] = {
    "classic": {},
    "standard": {
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "augment": "crop+flip",
        "batch_size": 128,
        "epochs": 200,
    },
    "fast": {
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "schedule": "onecycle",
        "augment": "crop+flip",
        "label_smoothing": 0.1,
        "batch_size": 32,
        "epochs": 10,
    },
}


def preset(recipe: str, dataset: str | None = None) -> dict[str, Any]:
    """Every field's value under a recipe, then under the data set's card; what the user gives comes after.

    Raises:
        BadReference: an unknown recipe or data set.
    """
    if recipe not in RECIPES:
        instead = nearest(recipe, RECIPES) or f"; known are {', '.join(RECIPES)}"
        raise BadReference(f"no recipe is called {recipe!r}{instead}")
    defaults = {f.name: f.default for f in dataclasses.fields(RunSpec) if f.default is not dataclasses.MISSING}
    return {**defaults, **RECIPES[recipe], **(_from_card(dataset) if dataset else {})}


def _from_card(dataset: str) -> dict[str, Any]:
    card = DATASETS.resolve(dataset).card
    given = {"image_size": card.image_size or None, "augment": card.augment or None}
    return {name: value for name, value in given.items() if value is not None}
