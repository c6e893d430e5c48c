"""References: `name(option=1)` and `package.module:Object(option=1)`, read as literals, never evaluated."""

import ast
import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from attnbench.errors import BadReference

_SHAPE = re.compile(r"\s*([A-Za-z_][\w.\-]*(?::[A-Za-z_][\w.]*)?)\s*(\(.*\))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Ref:
    """A thing asked for by name, with the options it was asked with, sorted by name."""

    name: str
    options: tuple[tuple[str, object], ...] = ()

    @property
    def is_object(self) -> bool:
        """Whether the name is `package.module:Object`, somebody's own code."""
        return ":" in self.name

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}({', '.join(f'{key}={_literal(value)}' for key, value in self.options)})"


def parse(text: str) -> Ref:
    """Read a reference.

    Raises:
        BadReference: it is not `name`, `name(option=literal, ...)` or `package.module:Object(...)`.
    """
    match = _SHAPE.fullmatch(text)
    if not match:
        raise BadReference(f"{text!r} cannot be read; write name or name(option=1){_quote_hint(text)}")
    name, arguments = match.groups()
    return Ref(name, _options(text, arguments) if arguments else ())


def nearest(word: str, known: Iterable[str]) -> str:
    """Say `; did you mean 'x'?` when something known is near to `word`, else nothing."""
    lowered, asked = {name.lower(): name for name in known}, word.lower()
    close = difflib.get_close_matches(asked, lowered, n=8, cutoff=0.5)
    if not close:
        return ""

    def likeness(name: str) -> tuple[bool, float, int]:
        """A name with letters too many first (`sse` is `se` rather than `scse`), then by what both share."""
        alike = difflib.SequenceMatcher(None, name, asked)
        return name in asked, alike.ratio(), alike.find_longest_match().size

    return f"; did you mean {lowered[max(close, key=likeness)]!r}?"


def _options(text: str, arguments: str) -> tuple[tuple[str, object], ...]:
    try:
        call = ast.parse(f"_{arguments}", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as problem:
        reason = problem.args[0] if problem.args else "too deep"
        raise BadReference(f"{text!r} cannot be read: {reason}") from None
    if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
        raise BadReference(f"{text!r}: options are written by name, as in name(option=1)")
    options: dict[str, object] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in options:
            raise BadReference(f"{text!r}: each option is written once, by name")
        options[keyword.arg] = _value(text, keyword.arg, keyword.value)
    return tuple(sorted(options.items()))


def _value(text: str, option: str, node: ast.expr) -> object:
    if isinstance(node, ast.Name):
        raise BadReference(f'{text!r}: write {option}="{node.id}", with quotes')
    try:
        return _kept(ast.literal_eval(node))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise BadReference(f"{text!r}: {option} must be a number, a quoted word or a tuple of them") from None


def _kept(value: object) -> object:
    """The value, if its text is the same on every machine; lists become tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_kept, value))
    if value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"{value!r} is no option")


def _literal(value: object) -> str:
    plain = isinstance(value, str) and value.isprintable() and '"' not in value and "\\" not in value
    return f'"{value}"' if plain else repr(value)


def _quote_hint(text: str) -> str:
    return ' (in YAML put quotes round it: "name(a=1, b=2)")' if text.count("(") != text.count(")") else ""
