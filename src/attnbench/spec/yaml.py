"""YAML with the line of everything in it, so that a mistake can be pointed at."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attnbench.errors import BadStudy

KeyPath = tuple[str | int, ...]
"""The keys and positions that lead to a value."""


@dataclass(frozen=True)
class Marked:
    """A file's plain values, and where they stand."""

    file: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int]
    """The line of every key and element."""
    twice: list[tuple[KeyPath, int]] = field(default_factory=list)
    """Keys that stand once more in their mapping, with the line; the first value counts."""

    def line(self, place: KeyPath) -> int:
        """The line of a place, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def dotted(place: KeyPath) -> str:
    """A place as it is written in a message: `grid.attention[2]`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def load(file: Path, keys: Iterable[str]) -> Marked:
    """Read a file that holds one mapping, with `keys` if all is well.

    Raises:
        BadStudy: it cannot be read, or holds something else.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadStudy([f"{file}: no such file"]) from None
    except OSError as problem:
        raise BadStudy([f"{file}: {problem.strerror}"]) from None
    except UnicodeDecodeError:
        raise BadStudy([f"{file}: this is no text file; a study is YAML"]) from None
    try:
        found = _marked(file, text)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        hint = ' (a name with options needs quotes: "se(reduction=8, variant=...)")' if "(" in text else ""
        raise BadStudy([f"{file}:{mark.line + 1 if mark else 1}: {problem.problem}{hint}"]) from None
    except yaml.YAMLError as problem:
        raise BadStudy([f"{file}: {str(problem).splitlines()[0]}"]) from None
    except RecursionError:
        raise BadStudy([f"{file}: nested too deeply"]) from None
    if found is None:
        raise BadStudy([f"{file}:1: a study is a mapping with the keys {', '.join(keys)}"])
    return found


class _Loader(yaml.SafeLoader):
    """Plain YAML, with `1e-3` a number, as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"), list("-+0123456789.")
)


def _marked(file: Path, text: str) -> Marked | None:
    loader = _Loader(text)
    node = loader.get_single_node()
    found = Marked(file, {}, {})
    values = _value(loader, node, (), found) if node else {}
    if not isinstance(values, dict):
        return None
    found.values.update(values)
    return found


def _value(loader: _Loader, node: yaml.Node, place: KeyPath, found: Marked) -> Any:
    """The node as plain values; lines and doubled keys are noted in `found`."""
    found.lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*place, number), found) for number, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(loader, key_node)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem=f"{key!r} is no name", problem_mark=key_node.start_mark)
        if key in values:
            found.twice.append(((*place, key), key_node.start_mark.line + 1))
            continue
        values[key] = _value(loader, value_node, (*place, key), found)
        found.lines[(*place, key)] = key_node.start_mark.line + 1
    return values


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except ValueError as problem:
        raise yaml.MarkedYAMLError(problem=str(problem), problem_mark=node.start_mark) from None
