"""What an examination found: sentences, each of something that holds, that does not, or that cannot be told."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from attnbench.console import printable


@dataclass(frozen=True)
class Remark:
    """One line of an examination."""

    word: Literal["ok", "note", "FAILED"]
    text: str

    def __str__(self) -> str:
        """As it is printed: what strangers wrote reaches no terminal as anything but text."""
        return printable(f"{self.word:7} {self.text}")


def ok(text: str) -> Remark:
    """Something that holds."""
    return Remark("ok", text)


def note(text: str) -> Remark:
    """Something that cannot be told, or that a reader must know."""
    return Remark("note", text)


def failed(text: str) -> Remark:
    """Something that is not as it is said to be."""
    return Remark("FAILED", text)


def settled(text: str, problems: Iterable[str]) -> Iterator[Remark]:
    """That something holds; or else each problem by itself."""
    found = [failed(problem) for problem in problems]
    yield from found or [ok(text)]
