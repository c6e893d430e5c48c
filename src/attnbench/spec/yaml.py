"""YAML with the line of everything in it, so that a mistake can be pointed at."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from attnbench.errors import BadStudy

MOST_BYTES, MOST_DEEP = 4 << 20, 100
"""Of a file that is read, and how deeply what is in it may be nested: far more than a study has."""
KeyPath = tuple[str | int, ...]
"""The keys and positions that lead to a value."""


@dataclass(frozen=True)
class Marked:
    """A file's plain values, and where they stand."""

    file: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int]
    """The line of every key and element."""
    wrong: list[tuple[KeyPath, int, str]] = field(default_factory=list)
    """Keys that appear twice (the first value counts) and words of two meanings (kept as text): place, line, what."""

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
    text = _text(file)
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


def _text(file: Path) -> str:
    try:
        with file.open("rb") as source:
            content = source.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise BadStudy([f"{file}: no such file"]) from None
    except OSError as problem:
        raise BadStudy([f"{file}: {problem.strerror}"]) from None
    if len(content) > MOST_BYTES:
        raise BadStudy([f"{file}: more than {MOST_BYTES:,} bytes, which no study has"])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        line, byte = content[: problem.start].count(b"\n") + 1, content[problem.start]
        if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE):
            what = f"{file}:1: this file is UTF-16; save it as UTF-8"
        elif b"\0" in content:
            what = f"{file}: this is no text file; a study is YAML"
        else:
            what = f"{file}:{line}: byte 0x{byte:02x} in this line is not UTF-8 (Latin-1?); save the file as UTF-8"
        raise BadStudy([what]) from None


class _Loader(yaml.SafeLoader):
    """Plain values as in the core schema of YAML 1.2; PyYAML's own are those of YAML 1.1.

    Its scanner looks at all open brackets at each token, which takes hours where strangers open many.
    """

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803
        """Open a bracket, unless too many are open."""
        if self.flow_level >= MOST_DEEP:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def add_indent(self, column: int) -> bool:
        """Open a block, unless too many are open."""
        if len(self.indents) >= MOST_DEEP:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.get_mark())
        return bool(super().add_indent(column))


_Loader.yaml_implicit_resolvers = {}
_TAG = "tag:yaml.org,2002:"
_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
}
"""What a plain scalar is, by the YAML 1.2 specification (10.3.2), with the characters that it may begin with."""
for _name, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)
_OLD = yaml.resolver.Resolver()
_TRUTHS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
MOST_VALUES, MOST_KEYS = 100_000, 200
"""Values in a file, aliases written out, and keys of a mapping: more than a study has, few enough to be looked at."""


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
    """The node as plain values; lines, and what is wrong, are noted in `found`."""
    found.lines[place] = node.start_mark.line + 1
    if len(found.lines) > MOST_VALUES:
        raise yaml.MarkedYAMLError(problem=f"more than {MOST_VALUES:,} values", problem_mark=node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*place, number), found) for number, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node, place, found)
    values: dict[str, Any] = {}
    if len(node.value) > MOST_KEYS:
        raise yaml.MarkedYAMLError(problem=f"more than {MOST_KEYS:,} keys", problem_mark=node.start_mark)
    for key_node, value_node in node.value:
        key = _scalar(loader, key_node, (*place, str(key_node.value)), found)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem=f"{key!r} is no name", problem_mark=key_node.start_mark)
        if key in values:
            found.wrong.append(((*place, key), key_node.start_mark.line + 1, "appears twice"))
            continue
        values[key] = _value(loader, value_node, (*place, key), found)
        found.lines[(*place, key)] = key_node.start_mark.line + 1
    return values


def _scalar(loader: _Loader, node: yaml.Node, place: KeyPath, found: Marked) -> Any:
    if isinstance(node, yaml.ScalarNode) and (what := _ambiguous(node)):
        found.wrong.append((place, node.start_mark.line + 1, what))
        return str(node.value)
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, LookupError, AttributeError) as problem:  # the last two of tags that do not fit their text
        raise yaml.MarkedYAMLError(problem=str(problem), problem_mark=node.start_mark) from None


def _ambiguous(node: yaml.ScalarNode) -> str:
    """What to write in place of a value that YAML versions read differently: `010` is 8 in 1.1 and 10 in 1.2."""
    text, tag = str(node.value), node.tag.removeprefix(_TAG)
    zeros = tag == "int" and re.fullmatch(r"[-+]?0[0-9]+", text)
    old = str(_OLD.resolve(yaml.ScalarNode, text, (True, False))).removeprefix(_TAG)  # type: ignore[no-untyped-call]
    known = node.style is None and tag in ("str", *_CORE)
    if not zeros and (not known or old == tag or (tag == "float" and old == "str")):
        return ""
    plain = text.replace("_", "")
    if text.lower() in _TRUTHS:
        instead = f"{_TRUTHS[text.lower()]} or "
    elif re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", plain):
        instead = f"{plain if '.' in plain else int(plain)} or "
    else:
        instead = ""
    return f'{text} is read differently by YAML 1.1 and YAML 1.2; write {instead}"{text}" in quotes for a text'
