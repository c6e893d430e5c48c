"""What docs/architecture.md is made of: each room's own sentence, and the first line of every file in it."""

import ast
from pathlib import Path

from studies import ROOT

SOURCE = ROOT / "src" / "attnbench"
LISTED = {"mechanisms", "backbones", "data"}
"""Rooms whose files are one thing each: docs/mechanisms.md and `attnbench list` show what is there."""


def tree() -> str:
    """The rooms with their files, as a tree with a sentence each."""
    rooms = sorted(file.parent for file in SOURCE.glob("*/__init__.py"))
    lines = [f"{file.name:22} {sentence(file)}" for file in _files(SOURCE)]
    for room in rooms:
        lines += ["", f"{room.name + '/':22} {sentence(room / '__init__.py')}"]
        lines += [f"  {file.name:20} {sentence(file)}" for file in _files(room) if room.name != "mechanisms"]
    return "\n".join(["```", *lines, "```", ""])


def sentence(file: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0]


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
