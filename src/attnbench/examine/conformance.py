"""What everything that can be registered promises, as properties that can be checked on anybody's own.

`attnbench check` and the tests of our own catalogue run the same functions.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from attnbench.catalogue.registry import BACKBONES, DATASETS
from attnbench.examine import promises_backbone, promises_contents, promises_data, promises_numbers, promises_use
from attnbench.examine.promises import CHANNELS, PROMISES, Outcome, Subject, outcome, tried

__all__ = ["CHANNELS", "PROMISES", "Kind", "Outcome", "Subject", "broken", "outcome", "outcomes"]

FAMILIES = (promises_contents, promises_numbers, promises_use)
"""The files whose functions are the promises of mechanisms: imported, they are known."""
Kind = Literal["attention", "backbone", "dataset"]


def outcomes(reference: str, kind: Kind = "attention", root: Path = Path()) -> Iterator[tuple[str, Outcome]]:
    """Every promise of a mechanism, a backbone or a data set (in the data folder `root`), with what came of it.

    Raises:
        BadReference, ForeignError: nothing is called so, or it is no mechanism that can be built from a width alone.
    """
    for sentence, check in _checks(reference, kind, root).items():
        yield sentence, tried(check)


def broken(reference: str, sentence: str) -> list[str]:
    """What breaks one promise of a mechanism; empty if it keeps it, or if it does not apply.

    Raises:
        BadReference: nothing is called so.
    """
    return list(outcome(reference, sentence).wrong)


def _checks(reference: str, kind: Kind, root: Path) -> dict[str, Callable[[], Iterator[str]]]:
    if kind == "backbone":
        backbone = BACKBONES.resolve(reference)
        return {says: partial(check, backbone) for says, check in promises_backbone.PROMISES.items()}
    if kind == "dataset":
        data = promises_data.DataSubject(DATASETS.resolve(reference), root)
        return {says: partial(check, data) for says, check in promises_data.PROMISES.items()}
    subject = Subject(reference)
    subject.build()  # what cannot be built would break every promise alike
    return {says: partial(check, subject) for says, check in PROMISES.items()}
