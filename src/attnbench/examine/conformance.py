"""What every mechanism promises: the faults of published zoos, each as a property that can be checked on any module.

`attnbench check pkg.mod:Class` and the tests of our own catalogue run the same functions.
"""

from attnbench.examine import promises_contents, promises_numbers, promises_use
from attnbench.examine.promises import CHANNELS, PROMISES, Outcome, Subject, outcome

__all__ = ["CHANNELS", "PROMISES", "Outcome", "Subject", "broken", "outcome"]

FAMILIES = (promises_contents, promises_numbers, promises_use)
"""The files whose functions are the promises: imported, they are known."""


def broken(reference: str, sentence: str) -> list[str]:
    """What breaks one promise; empty if the mechanism keeps it, or if it does not apply.

    Raises:
        BadReference: nothing is called so.
    """
    return list(outcome(reference, sentence).wrong)
