"""Fine-tuning as a run's fields ask for it: initial weights, what is frozen and until when, what has no effect."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.files import digest_of, expanded

SUFFIXES = (".safetensors", ".pt", ".pth")
FREEZES = ("none", "backbone", "all-but-head")
"""What can be frozen besides the parameters that a pattern names."""


@dataclass(frozen=True)
class Weights:
    """Where a backbone's initial weights come from: chance, a file as it was when the run was named, a stored run."""

    run: str = ""
    path: str = ""
    sha256: str = ""
    """Of the file's content."""

    @classmethod
    def of(cls, text: str) -> "Weights":
        """Read `none`, `run:ID`, `FILE`, or `FILE#sha256=...`, of which the file is not looked at.

        Raises:
            ValueError: it is nothing of these, or no such file is there.
        """
        if text == "none":
            return cls()
        if text.startswith("run:"):
            if not re.fullmatch(r"[0-9a-f]{12}", text.removeprefix("run:")):
                raise ValueError(f"{text!r} needs the whole id of a run, as in run:0123456789ab")
            return cls(run=text.removeprefix("run:"))
        path, pinned, sha256 = text.partition("#sha256=")
        if not path.endswith(SUFFIXES):
            raise ValueError(f"{text!r} is neither 'none', 'run:ID', nor a file that ends in {', '.join(SUFFIXES)}")
        if pinned and not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(f"{text!r} needs 64 hex digits behind #sha256=")
        return cls(path=path, sha256=sha256 or _hashed(expanded(path)))

    @property
    def identity(self) -> str:
        """What of them decides the numbers: a file's content wherever it lies, or a run, of which its id says all."""
        return f"sha256:{self.sha256}" if self.path else str(self)

    def __str__(self) -> str:
        if self.path:
            return f"{self.path}#sha256={self.sha256}"
        return f"run:{self.run}" if self.run else "none"


def _hashed(file: Path) -> str:
    try:
        about = file.stat()
        if not file.is_file():
            raise ValueError(f"{str(file)!r} is no file")
        return _digest(file, about.st_size, about.st_mtime_ns)
    except OSError as problem:
        raise ValueError(f"{str(file)!r} cannot be read: {problem.strerror or problem}") from None


@functools.lru_cache(maxsize=64)
def _digest(file: Path, _size: int, _changed: int) -> str:
    """The hash of a file of this size and time of change, which is computed once."""
    return digest_of(file)


def freeze_mistake(text: str) -> str:
    """What is wrong with what a run freezes; empty if nothing is."""
    if not text.startswith("pattern:"):
        known = ", ".join(map(repr, FREEZES))
        return "" if text in FREEZES else f"{text!r} is not one of {known} or pattern:REGEX, of paths of parameters"
    try:
        re.compile(text.removeprefix("pattern:"))
    except re.error as problem:
        return f"{text!r} holds no regular expression: {problem}"
    return ""


def mistakes(sound: Mapping[str, Any], pretrained: bool) -> dict[str, str]:
    """What is wrong with the fields of fine-tuning, where each has the right type.

    Args:
        pretrained: whether the backbone comes with weights of its library.
    """
    found: dict[str, str] = {}
    try:
        weights = Weights.of(sound.get("weights", "none"))
        if pretrained and weights != Weights():
            found["weights"] = f"{sound['weights']!r} would replace those of pretrained=True; give one of the two"
    except ValueError as problem:
        found["weights"] = str(problem)
    if wrong := freeze_mistake(sound.get("freeze", "none")):
        found["freeze"] = wrong
    frozen, epochs = sound.get("freeze_epochs", 0), sound.get("epochs", 1)
    if frozen > epochs and "epochs" in sound:
        found["freeze_epochs"] = f"{frozen} frozen epochs are more than {epochs} epochs of training; 0 is all of them"
    return found


def thawed(fields: Mapping[str, Any]) -> int:
    """After how many epochs all that was frozen learns too; 0 where that never happens, or nothing is frozen."""
    late = fields["freeze"] != "none" and fields["freeze_epochs"] < fields["epochs"]
    return int(fields["freeze_epochs"]) if late else 0


def form(fields: Mapping[str, Any], weights: Weights, plain: bool) -> dict[str, object]:
    """The part of a run's canonical form that is of fine-tuning: what is without effect has its default.

    Args:
        plain: whether the run has no mechanism.
    """
    for_good = not thawed(fields)
    still = for_good and fields["freeze"] in ("backbone", "all-but-head")
    return {
        "weights": weights.identity,
        "freeze_epochs": thawed(fields),
        "backbone_lr": 1.0 if still else fields["backbone_lr"],
        "layer_decay": 1.0 if still else fields["layer_decay"],
        "mechanism_lr": 1.0 if plain or (for_good and fields["freeze"] == "all-but-head") else fields["mechanism_lr"],
    }
