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


def printable_lines(text: str) -> str:
    """The same of several lines."""
    return "\n".join(map(printable, text.splitlines()))


def shortened(text: str, width: int) -> str:
    """A text of at most so many letters: what is in the middle makes way, for names differ at both ends."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def duration(seconds: float) -> str:
    """`40 s`, `5 min` or `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def first_line(problem: Exception) -> str:
    """What a library's error says first."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:300]


def inert(value: object) -> object:
    """A value for a cell of a CSV file: a text that a spreadsheet would take for a formula is made a text again."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else value
