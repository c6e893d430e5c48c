"""What is said to the person at the terminal."""

import sys


def say(message: str) -> None:
    """One line on stderr."""
    print(f"attnbench: {message}", file=sys.stderr, flush=True)


def listed(names: list[str]) -> str:
    """`a, b and c`; of many the first four."""
    shown = names if len(names) < 6 else [*names[:4], f"{len(names) - 4} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def printable(text: str) -> str:
    """A line that strangers may have written, without what a terminal would take for a command."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
