"""A study file: a grid of runs, the baseline, and how the analysis is done; every mistake is named at once."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Gt

from attnbench.errors import BadReference, BadStudy
from attnbench.recipes import preset
from attnbench.refs import nearest
from attnbench.registry import ATTENTION, DATASETS
from attnbench.spec import RunSpec, field_docs, mistakes, violations

Path_ = tuple[str | int, ...]


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
    seeds: int | list[int] = 1
    """How many repetitions (0, 1, ...), or which seeds."""
    baseline: str = "none"
    """The arm that every other is compared with."""
    margin: Annotated[float, Gt(0)] = 1.0
    """Equivalence margin in percentage points."""
    pairing: Literal["independent", "paired"] = "independent"
    """How the analysis treats equal seeds, declared beforehand."""

    def __post_init__(self) -> None:
        found = _mistakes(vars(self))
        if found:
            raise BadStudy(f"{self.name}: {mistake}" for mistake in found)

    @classmethod
    def load(cls, file: str | Path) -> "Study":
        """Read a study file.

        Raises:
            BadStudy: one line for each mistake, with its line in the file.
        """
        file = Path(file)
        values, lines = _parsed(file)
        found = _mistakes(values)
        if found:
            placed = sorted(((_line(lines, mistake.at), str(mistake)) for mistake in found), key=lambda pair: pair[0])
            raise BadStudy(f"{file}:{line}: {mistake}" for line, mistake in placed)
        return cls(**values)

    def runs(self) -> list[RunSpec]:
        """All runs, seeds varying slowest, so that an interrupted study is balanced."""
        cells = [cell for cell, _ in _cells(vars(self))]
        specs = [RunSpec(**cell, seed=seed) for seed in self.seed_list for cell in cells]
        return list({spec.id: spec for spec in specs}.values())

    @property
    def seed_list(self) -> list[int]:
        """The seeds."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    @property
    def slug(self) -> str:
        """The name as the name of a folder."""
        return re.sub(r"[^\w.-]+", "-", self.name).strip("-.") or "study"


@dataclass(frozen=True)
class _Mistake:
    """What is wrong, under which name it is said, and the thing whose line is given."""

    path: Path_
    what: str
    at: Path_

    def __str__(self) -> str:
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return f"{text}: {self.what}" if text else self.what


class _Loader(yaml.SafeLoader):
    """Plain YAML, with `1e-3` a number, as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"), list("-+0123456789.")
)


def _parsed(file: Path) -> tuple[dict[str, Any], dict[Path_, int]]:
    """The file's values, and the line of every key and element."""
    lines: dict[Path_, int] = {}
    try:
        text = file.read_text(encoding="utf-8")
        loader = _Loader(text)
        node = loader.get_single_node()
        values = _value(loader, node, (), lines) if node else {}
    except FileNotFoundError:
        raise BadStudy([f"{file}: no such file"]) from None
    except OSError as problem:
        raise BadStudy([f"{file}: {problem.strerror}"]) from None
    except UnicodeDecodeError:
        raise BadStudy([f"{file}: this is no text file; a study is YAML"]) from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        hint = ' (a name with options needs quotes: "se(reduction=8, variant=...)")' if "(" in text else ""
        raise BadStudy([f"{file}:{mark.line + 1 if mark else 1}: {problem.problem}{hint}"]) from None
    except yaml.YAMLError as problem:
        raise BadStudy([f"{file}: {str(problem).splitlines()[0]}"]) from None
    except RecursionError:
        raise BadStudy([f"{file}: nested too deeply"]) from None
    if not isinstance(values, dict):
        raise BadStudy([f"{file}:1: a study is a mapping with the keys {', '.join(field_docs(Study))}"])
    return values, lines


def _value(loader: _Loader, node: yaml.Node, path: Path_, lines: dict[Path_, int]) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, str) or key in found:
                what = "appears twice" if isinstance(key, str) else "is no name"
                raise yaml.MarkedYAMLError(problem=f"{key!r} {what}", problem_mark=key_node.start_mark)
            found[key] = _value(loader, value_node, (*path, key), lines)
            lines[(*path, key)] = key_node.start_mark.line + 1
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, number), lines) for number, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def _mistakes(values: dict[str, Any]) -> list[_Mistake]:
    """Everything that is wrong with a study: its shape, the names in it, and each of its cells."""
    found = [_Mistake(path, what, path) for path, what in violations(Study, values)]
    broken = {mistake.path[0] for mistake in found}
    sound = {name: value for name, value in values.items() if name not in broken}
    found += _field_mistakes(sound) + _seed_mistakes(sound) + _recipe_mistakes(sound)
    if any(mistake.path == ("recipe",) for mistake in found):
        sound.pop("recipe", None)
    known = set(field_docs(RunSpec))
    for cell, origin in _cells(sound):
        named = {name: value for name, value in cell.items() if name in known}
        for name, what in mistakes({**named, "seed": 0}).items():
            path = origin.get(name, ("base", name))
            mistake = _Mistake(path, what, path)
            if mistake not in found and path[0] not in broken:
                found.append(mistake)
    return found or _baseline_mistakes(sound)


def _field_mistakes(values: dict[str, Any]) -> list[_Mistake]:
    """Names that are no run fields, wherever they stand."""
    known = [name for name in field_docs(RunSpec) if name != "seed"]
    places: list[tuple[Path_, dict[str, Any]]] = [
        (("base",), values.get("base", {})),
        (("grid",), values.get("grid", {})),
    ]
    for number, rule in enumerate(values.get("where", [])):
        places += [(("where", number, part), rule.get(part, {})) for part in ("if", "set")]
    found = []
    for path, fields in places:
        for name in fields:
            if name == "seed":
                found.append(_Mistake((*path, name), "the seeds of a study stand under its key 'seeds'", (*path, name)))
            elif name not in known:
                found.append(_Mistake(path, f"unknown field {name!r}{nearest(name, known)}", (*path, name)))
    return found


def _seed_mistakes(values: dict[str, Any]) -> list[_Mistake]:
    seeds, at = values.get("seeds", 1), ("seeds",)
    if isinstance(seeds, int):
        return [] if seeds >= 1 else [_Mistake(at, f"{seeds} must be at least 1", at)]
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        return [_Mistake(at, f"{seeds} must be different numbers from 0 on", at)]
    return []


def _recipe_mistakes(values: dict[str, Any]) -> list[_Mistake]:
    found = []
    try:
        preset(values.get("recipe", "classic"))
    except BadReference as problem:
        found.append(_Mistake(("recipe",), str(problem), ("recipe",)))
    for name, listed in values.get("grid", {}).items():
        if not listed:
            found.append(_Mistake(("grid", name), "an empty list leaves no run", ("grid", name)))
    return found


def _baseline_mistakes(values: dict[str, Any]) -> list[_Mistake]:
    baseline, at = values.get("baseline", "none"), ("baseline",)
    try:
        wanted = ATTENTION.canonical(baseline)
    except BadReference as problem:
        return [_Mistake(at, str(problem), at)]
    arms = sorted({ATTENTION.canonical(cell["attention"]) for cell, _ in _cells(values)})
    return [] if wanted in arms else [_Mistake(at, f"{baseline!r} is not among the arms {', '.join(arms)}", at)]


def _cells(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Path_]]]:
    """Every cell's run fields, complete but for the seed, and where in the file each came from."""
    base, grid = values.get("base", {}), values.get("grid", {})
    for picks in itertools.product(*(range(len(listed)) for listed in grid.values())):
        given = dict(base)
        origin: dict[str, Path_] = {name: ("base", name) for name in base}
        for name, pick in zip(grid, picks, strict=True):
            given[name], origin[name] = grid[name][pick], ("grid", name, pick)
        for number, rule in enumerate(values.get("where", [])):
            if all(_matches(name, given.get(name), wanted) for name, wanted in rule.get("if", {}).items()):
                given |= rule.get("set", {})
                origin |= {name: ("where", number, "set", name) for name in rule.get("set", {})}
        yield _complete(values.get("recipe", "classic"), given), origin


def _complete(recipe: str, given: dict[str, Any]) -> dict[str, Any]:
    """Recipe, then the data set's card, then what the file gives."""
    try:
        filled = preset(recipe, given.get("dataset"))
    except (BadReference, TypeError):
        filled = preset(recipe)
    cell = {**filled, **given}
    if isinstance(cell.get("stages"), list):
        cell["stages"] = tuple(cell["stages"])
    return {name: value for name, value in cell.items() if name != "seed"}


def _matches(name: str, value: object, wanted: object) -> bool:
    """Equal, with names in any case and spelling."""
    if value == wanted:
        return True
    registries: dict[str, Any] = {"dataset": DATASETS, "attention": ATTENTION}
    try:
        return name in registries and registries[name].canonical(value) == registries[name].canonical(wanted)
    except (BadReference, TypeError):
        return False


def _line(lines: dict[Path_, int], path: Path_) -> int:
    """The line of the path, or of the nearest thing around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
