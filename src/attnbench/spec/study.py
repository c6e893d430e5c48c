"""A study file: a grid of runs, the baseline, and how the analysis is done; every mistake is named at once."""

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Gt, Lt

from attnbench.catalogue.refs import nearest
from attnbench.catalogue.registry import ATTENTION, BACKBONES, DATASETS
from attnbench.errors import AttnbenchError, BadReference, BadStudy
from attnbench.files import replacing
from attnbench.spec.arm import TUNABLE, ArmKey, cell_key, labels, meant, shared
from attnbench.spec.recipes import preset
from attnbench.spec.run import RunSpec, canonical, field_docs, mistakes
from attnbench.spec.validation import violations
from attnbench.spec.yaml import KeyPath, dotted, load


@dataclass(frozen=True, kw_only=True)
class Study:
    """A product of run fields, times seeds; a value like a run, whose mistakes raise BadStudy."""

    name: str
    """What the study is called."""
    recipe: str = "classic"
    """The preset that every cell starts from."""
    base: dict[str, Any] = field(default_factory=dict)
    """Run fields that all cells share."""
    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Run fields that vary, each with its values; the product is taken."""
    where: list[dict[Literal["if", "set"], dict[str, Any]]] = field(default_factory=list)
    """Overrides for the cells that match."""
    seeds: int | list[int] | None = None
    """How many repetitions (0, 1, ...), or which seeds; left out: as many as the last look, or 1."""
    baseline: str = "none"
    """The arm that every other is compared with."""
    margin: Annotated[float, Gt(0), Lt(float("inf"))] = 1.0
    """Equivalence margin in percentage points."""
    pairing: Literal["independent", "paired"] = "independent"
    """How the analysis treats equal seeds, declared beforehand."""
    looks: list[int] | Literal["any"] | None = None
    """At how many seeds an arm there are verdicts (5, 8, 12, ...), or `any`: after each; left out: at the last seed."""
    failures: Literal["worst", "drop"] = "worst"
    """What a failed run scores, declared beforehand. worst: chance level; drop: nothing, it is left out."""
    tuned: list[str] = field(default_factory=list)
    """Run fields that were tuned for each arm by itself (lr, ...): arms are compared across their values."""
    numerics: Literal["native", "portable"] = "native"
    """portable: the same bits on every CPU with AVX2, but slower; native: each machine's own."""

    def __post_init__(self) -> None:
        found = _mistakes(type(self), vars(self))
        if found:
            raise BadStudy(f"{self.name}: {mistake}" for mistake in found)

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read a study file; a class that has more keys than a study reads its own kind of file.

        Raises:
            BadStudy: one line for each mistake, with its line in the file.
        """
        marked = load(Path(file), [each.name for each in fields(cls)])
        values, wrong = cls.written_out(marked.values), {place for place, _, _ in marked.wrong}
        found = [mistake for mistake in _mistakes(cls, values) if (mistake.at or mistake.place) not in wrong]
        if found or marked.wrong:
            lines = [(line, f"{dotted(place)}: {what}") for place, line, what in marked.wrong]
            lines += [(marked.line(mistake.at or mistake.place), str(mistake)) for mistake in found]
            raise BadStudy(f"{file}:{line}: {what}" for line, what in sorted(lines, key=lambda pair: pair[0]))
        return cls(**values)

    @classmethod
    def written_out(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The file's values with what stands for several of them written out; here nothing does."""
        return values

    @classmethod
    def more_mistakes(cls, values: dict[str, Any]) -> list["Mistake"]:
        """What is wrong with the keys that a class has beside a study's; `values` are of the right types."""
        return []

    def runs(self) -> list[RunSpec]:
        """All runs, seeds varying slowest, so that an interrupted study is balanced."""
        found = [cell for cell, _ in combinations(vars(self))]
        specs = [RunSpec(**cell, seed=seed) for seed in self.seed_list for cell in found]
        return list({spec.id: spec for spec in specs}.values())

    def save(self, file: Path) -> Path:
        """Write it as a study file; returns the file."""
        import yaml

        said = {each.name: getattr(self, each.name) for each in fields(self)}
        with replacing(file) as out:
            yaml.safe_dump({name: value for name, value in said.items() if value}, out, sort_keys=False, width=120)
        return file

    def cells(self) -> dict[str, dict[ArmKey, list[RunSpec]]]:
        """The runs by cell (as files name it) and by arm, in the order of the seeds."""
        found: dict[str, dict[ArmKey, list[RunSpec]]] = {}
        for spec in self.runs():
            form = canonical(spec)
            found.setdefault(cell_key(shared(form, self.tuned)), {}).setdefault(ArmKey.of(form), []).append(spec)
        return found

    @property
    def seed_list(self) -> list[int]:
        """The seeds."""
        seeds = self.seeds or (self.looks[-1] if isinstance(self.looks, list) else 1)
        return list(range(seeds)) if isinstance(seeds, int) else list(seeds)

    @property
    def slug(self) -> str:
        """The name as the name of a folder."""
        return re.sub(r"[^\w.-]+", "-", self.name).strip("-.") or "study"


@dataclass(frozen=True)
class Mistake:
    """What is wrong, the place that is named, and the place whose line is given."""

    place: KeyPath
    what: str
    at: KeyPath = ()

    def __str__(self) -> str:
        return f"{dotted(self.place)}: {self.what}" if self.place else self.what


def _mistakes(cls: type[Study], values: dict[str, Any]) -> list[Mistake]:
    """Everything that is wrong with a study: its shape, the names in it, and each of its cells."""
    found = _shape_mistakes(cls, values)
    dropped = [mistake.place for mistake in found]
    sound = _without(values, dropped)
    found += _field_mistakes(sound) + _seed_mistakes(sound) + _look_mistakes(sound) + _recipe_mistakes(sound)
    if any(mistake.place == ("recipe",) for mistake in found):
        sound.pop("recipe", None)
    found += _rule_mistakes(sound)
    known = set(field_docs(RunSpec))
    for cell, origin in combinations(sound):
        named = {name: value for name, value in cell.items() if name in known}
        for name, what in mistakes({**named, "seed": 0}).items():
            place = origin.get(name, ("base", name))
            mistake = Mistake(place, what)
            if mistake not in found and place[:1] not in dropped:
                found.append(mistake)
    return found + _arm_mistakes(sound) + cls.more_mistakes(sound)


def _shape_mistakes(cls: type[Study], values: dict[str, Any]) -> list[Mistake]:
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
        elif len(place) > 1 and isinstance(inside, list):
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


def _rule_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """Values in the rules of `where` that no run could have, also where a rule matches no cell."""
    found, known = [], set(field_docs(RunSpec))
    for number, rule in enumerate(values.get("where", [])):
        for part in ("if", "set"):
            given = {name: _plain(value) for name, value in rule.get(part, {}).items() if name in known}
            wrong = mistakes(given)
            found += [Mistake(("where", number, part, name), wrong[name]) for name in given if name in wrong]
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


def combinations(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, KeyPath]]]:
    """Every cell's run fields, complete but for the seed, and where in the file each came from."""
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
                origin |= {name: ("where", number, "set", name) for name in rule.get("set", {})}
        yield _complete(recipe, given), origin


def _complete(recipe: str, given: dict[str, Any]) -> dict[str, Any]:
    """Recipe, then the data set's card, then what the file gives."""
    try:
        filled = preset(recipe, given.get("dataset"))
    except (BadReference, TypeError):
        filled = preset(recipe)
    return {name: _plain(value) for name, value in {**filled, **given}.items() if name != "seed"}


def _plain(value: Any) -> Any:
    """YAML has lists where a run's fields are tuples."""
    return tuple(value) if isinstance(value, list) else value


def _matches(name: str, value: object, wanted: object) -> bool:
    """Equal, with names in any case and spelling."""
    if value == _plain(wanted):
        return True
    registries: dict[str, Any] = {"dataset": DATASETS, "attention": ATTENTION, "backbone": BACKBONES}
    try:
        return name in registries and registries[name].canonical(value) == registries[name].canonical(wanted)
    except (BadReference, TypeError):
        return False
