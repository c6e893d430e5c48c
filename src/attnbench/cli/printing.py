"""How the catalogue is printed for people: lists in groups with headings, cards a field at a time."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

KINDS = {
    "D": "D: keeps a map's shape and follows any convolution",
    "R": "R: replaces a convolution",
    "S": "S: works at stage level",
    "control": "controls: no attention mechanisms, but what gains are measured against",
}
LIBRARIES = "networks of a library"
FIELD = 12
"""Letters of a field's name on a card."""
READABLE = [
    (r"\(\?:(?:\(\?P<stage\d>\d+\)\|?)+\)|\(\?P<stage>\\d\+?\)", "N"),  # the stage's number, however it is told
    (r"\(\?\(stage\d\)(.*?)\)", r"(\1)"),
    (r"\\d\+?", "*"),
    (r"\(\\\.\.\+\)\?", "[.tag]"),
    (r"\\", ""),
]
"""What is hard to read in a pattern -> what stands for it."""


def table(groups: Mapping[str, Sequence[Sequence[str]]], heads: Sequence[str]) -> list[str]:
    """Rows below their groups' headings, in columns that all groups share; a number stands to the right.

    Args:
        groups: heading -> rows of as many cells as `heads`, the last one of any length.
    """
    rows = [heads, *(row for group in groups.values() for row in group)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads) - 1)]

    def line(row: Sequence[str]) -> str:
        right = [
            bool(re.fullmatch(r"[\d,-]+", cell)) or (row is heads and column > 0) for column, cell in enumerate(row)
        ]
        cells = zip(row, widths, right, strict=False)
        return "  ".join([*(f"{cell:{'>' if to else '<'}{width}}" for cell, width, to in cells), row[-1]]).rstrip()

    told = [line(heads)]
    for heading, group in groups.items():
        told += ["", heading, *map(line, group)] if group else []
    return told


def card_lines(card: Mapping[str, Any]) -> Iterable[str]:
    """A card's fields with something in them, each with its lines."""
    for name, value in card.items():
        if value in ("", {}, (), None, False) or (name == "year" and not value):
            continue
        first, *more = _told(name, value)
        yield f"{name:{FIELD}} {first}"
        yield from (f"{'':{FIELD}} {line}" for line in more)


def readable(pattern: str) -> str:
    """A pattern of module paths or of names as people write it: `layerN.*.bn2`."""
    for hard, plain in READABLE:
        pattern = re.sub(hard, plain, pattern)
    return pattern


def _told(name: str, value: Any) -> Iterable[str]:
    """The lines of a value."""
    if name == "families":
        yield from (f"{readable(pattern)}: {', '.join(sites)}" for pattern, sites in value.items())
    elif isinstance(value, Mapping):
        width = max(map(len, value))
        for each, what in value.items():
            yield f"{each:{width}}  {readable(what) if name == 'sites' else _words(what)}"
    elif name == "files":
        yield from map(_words, value)
    else:
        yield from textwrap.wrap(_words(value), max(40, shutil.get_terminal_size((100, 0)).columns - FIELD - 1))


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{each} = {what}" for each, what in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
