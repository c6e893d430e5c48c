"""A file for `attnbench tune`: a study, a space of recipes, and how many of them every arm may try."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen

from attnbench.catalogue.refs import nearest
from attnbench.errors import AttnbenchError
from attnbench.spec.arm import TUNABLE
from attnbench.spec.combinations import combinations, given_at
from attnbench.spec.mistakes import Mistake
from attnbench.spec.run import RunSpec, mistakes
from attnbench.spec.study import Study

FIRST = 1_000_000
"""The first seed of a search; the seeds of a study lie below it, so that none has been tuned for."""
Point = dict[str, Any]
"""Run fields with the values that a trial gives them."""


@dataclass(frozen=True, kw_only=True)
class Search(Study):
    """A study whose arms are each tuned by as many trials in the same space, scored on validation images."""

    space: Annotated[dict[str, dict[Literal["low", "high", "log", "choices"], Any]], MinLen(1)]
    """Run fields that are tuned: each with `low` and `high` (and `log: true`), or with `choices`."""
    trials: Annotated[int, Ge(1)] = 16
    """Trials of every arm."""
    sampler: Literal["random", "qmc", "tpe"] = "random"
    """Points of the trials. random, qmc: the same for every arm; tpe: by what an arm's earlier trials scored."""

    @classmethod
    def more_mistakes(cls, values: dict[str, Any]) -> list[Mistake]:
        """What a search cannot be, where its values are of the right types."""
        spans = values.get("space", {}).items()
        found = [each for name, span in spans for each in _field_mistakes(name, span, values)]
        return [*found, *_split_mistakes(values)]

    def settings(self) -> Iterator[tuple[Point, dict[str, Any]]]:
        """Each arm in each cell: its fields of the grid and what else tells it from others, and all its run fields.

        Picks of the grid that the rules of `where` make the same are one.
        """
        cells: list[dict[str, Any]] = []
        for cell, _ in combinations(vars(self)):
            if cell not in cells:
                cells.append(cell)
        for cell in cells:
            alike = [other for other in cells if all(other[name] == cell[name] for name in self.grid)]
            apart = [name for name in cell if any(other[name] != cell[name] for other in alike)]
            given = {name: cell[name] for name in [*self.grid, *apart]}
            yield {name: [*value] if isinstance(value, tuple) else value for name, value in given.items()}, cell

    def trial(self, cell: Mapping[str, Any], number: int, point: Point) -> RunSpec:
        """The run of a trial, which never opens the test images.

        Raises:
            BadSpec: values of the space that cannot be together.
        """
        return RunSpec(**{**cell, **point, "evaluate": "val", "seed": FIRST + number})

    def tuned_study(self, chosen: Sequence[tuple[Point, Point]]) -> dict[str, Any]:
        """The file of the study in which every arm has its own values; its seeds have not been searched with.

        Args:
            chosen: the grid's values of an arm, and the point that it gets.
        """
        rules = [{"if": dict(picked), "set": dict(point)} for picked, point in chosen]
        given = {each.name: getattr(self, each.name) for each in fields(Study)}
        kept = {name: value for name, value in given.items() if value not in (None, [], {})}
        kept |= {"name": f"{self.name} tuned", "tuned": [*self.space]}
        if self.grid:
            return {**kept, "where": [*self.where, *rules]}
        return {**kept, "base": {**self.base, **chosen[0][1]}}


def _field_mistakes(name: str, span: Mapping[str, Any], values: dict[str, Any]) -> list[Mistake]:
    """What is wrong with one field of the space."""
    place = ("space", name)
    if name not in TUNABLE:
        return [Mistake(place, f"{name!r} is no field of a recipe that can be tuned{nearest(name, sorted(TUNABLE))}")]
    rules = [rule.get("set", {}) for rule in values.get("where", [])]
    if any(name in part for part in (values.get("base", {}), values.get("grid", {}), *rules)):
        return [Mistake(place, "has a value elsewhere in this file, too; leave it out there")]
    if what := _span_mistake(span):
        return [Mistake(place, what)]
    ends = {"choices": span["choices"]} if "choices" in span else {end: [span[end]] for end in ("low", "high")}
    wrong = ((end, mistakes({name: value}).get(name)) for end, given in ends.items() for value in given)
    return [Mistake((*place, end), what) for end, what in wrong if what]


def _span_mistake(span: Mapping[str, Any]) -> str:
    """What a range or a list of choices lacks; empty where nothing is."""
    if "choices" in span:
        alone = len(span) == 1 and isinstance(span["choices"], list) and len(span["choices"]) > 1
        return "" if alone else "choices are a list of two or more, and stand alone"
    ends = [span.get(end) for end in ("low", "high")]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        return "give numbers low and high, or a list of choices"
    low, high = float(ends[0]), float(ends[1])  # type: ignore[arg-type]
    if not low < high:
        return f"low {low:g} must be below high {high:g}"
    if not isinstance(span.get("log", False), bool):
        return "log is true or false"
    return "low must be above 0 where log is true" if span.get("log") and low <= 0 else ""


def _split_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """Arms without validation images, and seeds that a search may have used."""
    found = []
    seeds = values.get("seeds") or []
    if (isinstance(seeds, list) and max(seeds, default=0) >= FIRST) or (isinstance(seeds, int) and seeds > FIRST):
        found.append(Mistake(("seeds",), f"seeds from {FIRST:,} on are those of searches; give smaller ones"))
    if asked := given_at("evaluate", values):
        return found + [Mistake(at, "trials are scored on validation images anyway; leave it out") for at in asked]
    try:
        cells = [cell for cell, _ in combinations(values)]
        wrong = {mistakes({**cell, "evaluate": "val"}).get("evaluate") for cell in cells}
    except (AttnbenchError, TypeError):
        return found  # those have their own line
    return found + [Mistake(("base",), f"evaluate: {what}") for what in sorted(filter(None, wrong))]
