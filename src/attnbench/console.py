"""What is said to the person at the terminal; what neither a terminal nor a spreadsheet takes for a command."""

import sys
from collections.abc import Sequence


def say(message: str) -> None:
    """One line on stderr."""
    print(f"attnbench: {message}", file=sys.stderr, flush=True)


def listed(names: list[str]) -> str:
    """`a, b and c`; of many the first four."""
    return joined(names if len(names) < 6 else [*names[:4], f"{len(names) - 4} more"])


def joined(words: Sequence[str]) -> str:
    """`a, b and c`, however many."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def printable(text: str) -> str:
    """A line that strangers may have written, without what a terminal would take for a command."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def first_line(problem: Exception) -> str:
    """What a library's error says first."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:300]


def inert(value: object) -> object:
    """A value for a cell of a CSV file: a text that a spreadsheet would take for a formula is made a text again."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else value
