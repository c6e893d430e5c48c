"""The combinations of run fields that a study asks for: recipe, data set's card, base, grid and overrides."""

import itertools
from collections.abc import Iterator
from typing import Any

from attnbench.catalogue.registry import ATTENTION, BACKBONES, DATASETS
from attnbench.errors import BadReference
from attnbench.spec.recipes import preset
from attnbench.spec.yaml import KeyPath


def combinations(
    values: dict[str, Any], matched: set[int] | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, KeyPath]]]:
    """Every cell's run fields, complete but for the seed, and where in the file each came from.

    Args:
        matched: gets the places of the rules of `where` that matched a cell.
    """
    recipe, base, grid = values.get("recipe", "classic"), values.get("base", {}), values.get("grid", {})
    for picks in itertools.product(*(range(len(listed)) for listed in grid.values())):
        given = dict(base)
        origin: dict[str, KeyPath] = {name: ("base", name) for name in base}
        for name, pick in zip(grid, picks, strict=True):
            given[name], origin[name] = grid[name][pick], ("grid", name, pick)
        for number, rule in enumerate(values.get("where", [])):
            cell = _complete(recipe, given)
            if all(_matches(name, cell.get(name), wanted) for name, wanted in rule.get("if", {}).items()):
                given |= rule.get("set", {})
                if matched is not None:
                    matched.add(number)
                origin |= {name: ("where", number, "set", name) for name in rule.get("set", {})}
        yield _complete(recipe, given), origin


def given_at(name: str, values: dict[str, Any]) -> list[KeyPath]:
    """Where in a study's file a field of a run has a value."""
    places: list[KeyPath] = [(part, name) for part in ("base", "grid") if name in values.get(part, {})]
    rules = enumerate(values.get("where", []))
    return places + [("where", number, "set", name) for number, rule in rules if name in rule.get("set", {})]


def _complete(recipe: str, given: dict[str, Any]) -> dict[str, Any]:
    """Recipe, then the data set's card, then what the file gives."""
    try:
        filled = preset(recipe, given.get("dataset"))
    except (BadReference, TypeError):
        filled = preset(recipe)
    return {name: plain(value) for name, value in {**filled, **given}.items() if name != "seed"}


def plain(value: Any) -> Any:
    """YAML has lists where a run's fields are tuples."""
    return tuple(value) if isinstance(value, list) else value


def _matches(name: str, value: object, wanted: object) -> bool:
    """Equal, with names in any case and spelling."""
    if value == plain(wanted):
        return True
    registries: dict[str, Any] = {"dataset": DATASETS, "attention": ATTENTION, "backbone": BACKBONES}
    try:
        return name in registries and registries[name].canonical(value) == registries[name].canonical(wanted)
    except (BadReference, TypeError):
        return False
