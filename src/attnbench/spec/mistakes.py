"""Everything that can be wrong with a study's values, each with the place that it is about."""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnbench.catalogue.refs import nearest
from attnbench.errors import AttnbenchError, BadReference
from attnbench.spec.arm import TUNABLE, ArmKey, labels, meant, shared
from attnbench.spec.combinations import combinations, plain
from attnbench.spec.recipes import preset
from attnbench.spec.run import RunSpec, canonical, field_docs, mistakes
from attnbench.spec.validation import MOST_TOLD, violations
from attnbench.spec.yaml import KeyPath, dotted

MOST_CELLS, MOST_RUNS = 10_000, 60_000
"""Combinations of a study's grid, and its runs with all seeds."""


@dataclass(frozen=True)
class Mistake:
    """What is wrong, the place that is named, and the place whose line is given."""

    place: KeyPath
    what: str
    at: KeyPath = ()

    def __str__(self) -> str:
        return f"{dotted(self.place)}: {self.what}" if self.place else self.what


def study_mistakes(cls: type, values: dict[str, Any], more: Callable[[dict[str, Any]], list[Mistake]]) -> list[Mistake]:
    """Everything that is wrong with a study: its shape, the names in it, and each of its cells.

    Args:
        cls: a study, or what has further keys.
        more: what is wrong with those, where they are of the right types.
    """
    found = _shape_mistakes(cls, values)
    dropped = [mistake.place for mistake in found]
    sound = _without(values, dropped)
    found += _field_mistakes(sound) + _seed_mistakes(sound) + _look_mistakes(sound) + _recipe_mistakes(sound)
    if any(mistake.place == ("recipe",) for mistake in found):
        sound.pop("recipe", None)
    found += _rule_mistakes(sound)
    if large := _size_mistakes(sound):
        return found + large
    known, matched = set(field_docs(RunSpec)), set[int]()
    for cell, origin in combinations(sound, matched):
        named = {name: value for name, value in cell.items() if name in known}
        for name, what in mistakes({**named, "seed": 0}).items():
            place = origin.get(name, ("base", name))
            mistake = Mistake(place, what)
            if mistake not in found and place[:1] not in dropped:
                found.append(mistake)
    if not any(mistake.place[0] == "where" for mistake in found):
        idle = set(range(len(sound.get("where", [])))) - matched
        found += [Mistake(("where", number), "matches no cell of this study") for number in sorted(idle)]
    return found + _arm_mistakes(sound) + more(sound)


def _shape_mistakes(cls: type, values: dict[str, Any]) -> list[Mistake]:
    found = []
    for place, what in violations(cls, values):
        if place[0] == "seeds":
            place, what = ("seeds",), f"{values['seeds']!r} is neither a number of repetitions nor a list of seeds"
        if place[0] == "looks":
            place, what = ("looks",), f"{values['looks']!r} is neither a list of numbers of seeds nor 'any'"
        if place[-1] == "[key]":  # `what` says which keys there are
            rule = f"unknown key {place[-2]!r}; a rule has the keys 'if' and 'set'"
            place, what = (place[:-2], rule) if place[0] == "where" else (place[:-1], what)
        mistake = Mistake(place, what)
        if mistake not in found:
            found.append(mistake)
    return found


def _without(values: dict[str, Any], places: list[KeyPath]) -> dict[str, Any]:
    """The values less what is broken: an entry of base or grid, a rule, or a whole key."""
    sound = {name: copy.copy(value) for name, value in values.items()}
    for place in places:
        inside = sound.get(str(place[0]))
        if len(place) > 1 and isinstance(inside, dict):
            inside.pop(place[1], None)
        elif len(place) > 1 and isinstance(inside, list) and place[0] == "where":
            inside[int(place[1])] = {}
        else:
            sound.pop(str(place[0]), None)
    return sound


def _field_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """Names that are no run fields, wherever they stand."""
    known = [name for name in field_docs(RunSpec) if name != "seed"]
    places: list[tuple[KeyPath, dict[str, Any]]] = [
        (("base",), values.get("base", {})),
        (("grid",), values.get("grid", {})),
    ]
    for number, rule in enumerate(values.get("where", [])):
        places += [(("where", number, part), rule.get(part, {})) for part in ("if", "set")]
    found = []
    for path, given in places:
        for name in given:
            if name == "seed":
                found.append(Mistake((*path, name), "the seeds of a study stand under its key 'seeds'", (*path, name)))
            elif name not in known:
                found.append(Mistake(path, f"unknown field {name!r}{nearest(name, known)}", (*path, name)))
            if len(found) >= MOST_TOLD:
                return found
    return found


def _seed_mistakes(values: dict[str, Any]) -> list[Mistake]:
    seeds = values.get("seeds")
    if seeds is None:
        return []
    if isinstance(seeds, int):
        return [] if seeds >= 1 else [Mistake(("seeds",), f"{seeds} must be at least 1")]
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        return [Mistake(("seeds",), f"{seeds} must be different numbers from 0 on")]
    return []


def _look_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """Looks that are no growing numbers of seeds, or for which there are too few seeds."""
    looks, seeds = values.get("looks"), values.get("seeds")
    most = len(seeds) if isinstance(seeds, list) else seeds
    if looks == "any" and (most is None or most < 2):
        return [Mistake(("looks",), "'any' needs `seeds`, the most that an arm may get: at least 2", ("looks",))]
    if looks is None or looks == "any":
        return []
    if not looks or looks[0] < 2 or any(late <= early for early, late in itertools.pairwise(looks)):
        return [Mistake(("looks",), f"{looks} must be growing numbers of seeds an arm, from 2 on")]
    if most is not None and looks[-1] > most:
        return [Mistake(("looks",), f"the last look is at {looks[-1]} seeds an arm, but `seeds` gives {most}")]
    return []


def _recipe_mistakes(values: dict[str, Any]) -> list[Mistake]:
    found = []
    try:
        preset(values.get("recipe", "classic"))
    except BadReference as problem:
        found.append(Mistake(("recipe",), str(problem)))
    empty = [name for name, listed in values.get("grid", {}).items() if not listed]
    return found + [Mistake(("grid", name), "an empty list leaves no run") for name in empty]


def _size_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """More cells or runs than anybody trains, which would take hours to write out."""
    cells = math.prod(len(listed) for listed in values.get("grid", {}).values())
    seeds, looks = values.get("seeds"), values.get("looks")
    each = len(seeds) if isinstance(seeds, list) else seeds or (max(looks) if isinstance(looks, list) and looks else 1)
    if cells > MOST_CELLS:
        return [Mistake(("grid",), f"{cells:,} combinations; a study has at most {MOST_CELLS:,}")]
    if cells * each > MOST_RUNS:
        return [Mistake(("seeds",), f"{cells * each:,} runs; a study has at most {MOST_RUNS:,}")]
    return []


def _rule_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """Values in the rules of `where` that no run could have, also where a rule matches no cell."""
    found, known = [], set(field_docs(RunSpec))
    for number, rule in enumerate(values.get("where", [])):
        for part in ("if", "set"):
            given = {name: plain(value) for name, value in rule.get(part, {}).items() if name in known}
            wrong = {name: mistakes({name: value}).get(name) for name, value in given.items()}
            found += [Mistake(("where", number, part, name), what) for name, what in wrong.items() if what]
    return found


def _arm_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """A baseline that is no arm, and fields that cannot be an arm's own or have two values in one arm."""
    baseline, tuned = values.get("baseline", "none"), values.get("tuned", [])
    try:
        specs = [RunSpec(**cell) for cell, _ in combinations(values)]
    except (AttnbenchError, TypeError):
        return []  # those have their own line
    found = [Mistake(("tuned",), f"{name!r} is no field that can be tuned") for name in tuned if name not in TUNABLE]
    form = [canonical(spec) for spec in specs]
    places = {repr((shared(each, tuned), ArmKey.of(each))) for each in form}
    if len(places) < len({spec.id for spec in specs}):
        found.append(Mistake(("tuned",), f"an arm has several values of {', '.join(tuned)}; each arm has one"))
    arms = labels({ArmKey.of(canonical(spec)): spec.resolved.attention.placed.site for spec in specs})
    try:
        if arms:
            meant(baseline, arms)
    except BadReference as problem:
        found.append(Mistake(("baseline",), str(problem)))
    return found
