"""References: `name(option=1)`, `package.module:Object(option=1)` and `chain(one, other)`, read and never evaluated."""

import ast
import difflib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from attnbench.errors import BadReference

COMPOSITIONS = ("chain", "parallel")
"""What takes other mechanisms, written one after the other in front of its options."""
DEEPEST = 4
"""How deep compositions lie in one another at most."""
_SHAPE = re.compile(r"\s*([A-Za-z_][\w.\-]*(?::[A-Za-z_][\w.]*)?)\s*(\(.*\))?\s*", re.DOTALL)


@dataclass(frozen=True)
class Ref:
    """A thing asked for by name, with the options it was asked with, sorted by name."""

    name: str
    options: tuple[tuple[str, object], ...] = ()
    parts: tuple["Ref", ...] = ()
    """The mechanisms that a composition is made of."""

    @property
    def is_object(self) -> bool:
        """Whether the name is `package.module:Object`, somebody's own code."""
        return ":" in self.name

    def __str__(self) -> str:
        inside = [*map(str, self.parts), *(f"{key}={_literal(value)}" for key, value in self.options)]
        return f"{self.name}({', '.join(inside)})" if inside else self.name


def parse(text: str, depth: int = 0) -> Ref:
    """Read a reference.

    Args:
        depth: in how many compositions it lies.

    Raises:
        BadReference: it is not `name`, `name(option=literal, ...)`, `package.module:Object(...)` or a composition of
            such references, as `chain(eca, se(reduction=8))`.
    """
    match = _SHAPE.fullmatch(text)
    if not match:
        raise BadReference(f"{text!r} cannot be read; write name or name(option=1){_quote_hint(text)}")
    name, arguments = match.groups()
    if not arguments:
        return Ref(name)
    if name.lower() not in COMPOSITIONS:
        return Ref(name, _options(text, arguments))
    if depth == DEEPEST:
        raise BadReference(f"{text!r} lies in {depth} compositions; at most {DEEPEST} lie in one another")
    pieces = list(_pieces(text, arguments[1:-1]))
    options = [piece for piece in pieces if _NAMED.match(piece)]
    if pieces[len(pieces) - len(options) :] != options:
        raise BadReference(f"{text!r}: the mechanisms come first, then options by name")
    parts = (parse(_unquoted(piece), depth + 1) for piece in pieces[: len(pieces) - len(options)])
    return Ref(name, _options(text, f"({', '.join(options)})"), tuple(parts))


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


_NAMED = re.compile(r"\s*\w+\s*=")
_TOKEN = re.compile(r"""[^"'()\[\],]+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[()\[\],]""", re.DOTALL)


def _pieces(text: str, inside: str) -> Iterator[str]:
    """What stands between the commas of a composition that are in no brackets and in no quotes."""
    piece, depth, place = "", 0, 0
    while place < len(inside):
        token = _TOKEN.match(inside, place)
        if token is None:
            raise BadReference(f"{text!r} cannot be read: a quote is open")
        place, found = token.end(), token.group()
        depth += (found in ("(", "[")) - (found in (")", "]"))
        if depth < 0:
            raise BadReference(f"{text!r} cannot be read: a bracket closes that none opens")
        if found == "," and depth == 0:
            yield piece
            piece = ""
        else:
            piece += found
    if piece.strip():  # behind a last comma nothing need stand
        yield piece


def _unquoted(piece: str) -> str:
    """A part of a composition.

    Raises:
        BadReference: it stands in quotes.
    """
    quoted = re.fullmatch(r"""\s*(["'])(.*)\1\s*""", piece, re.DOTALL)
    if quoted:
        raise BadReference(f"{piece.strip()} in a composition is written without quotes: {quoted.group(2)}")
    return piece


def _options(text: str, arguments: str) -> tuple[tuple[str, object], ...]:
    try:
        call = ast.parse(f"_{arguments}", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as problem:
        reason = problem.args[0] if problem.args else "too deep"
        raise BadReference(f"{text!r} cannot be read: {reason}") from None
    if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
        meant = nearest(text.partition("(")[0].strip(), COMPOSITIONS)
        raise BadReference(f"{text!r}: options are written by name, as in name(option=1){meant}")
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
