"""Mistakes a user can fix. Anything that is not one of these is a bug and keeps its traceback.

Exit code 2: what was asked for cannot be done, or files cannot be used. Exit code 1: it was begun and failed.

AttnbenchError
├── BadReference      "se(reduction=": cannot be read, unknown name, unknown or impossible option
├── ForeignError      somebody's own code raised something: its line, and its traceback
├── BadSpec           a run that cannot be: every mistake of it at once
├── BadStudy          a study file that cannot be: every mistake of it at once, with its line
├── BudgetTooSmall    a budget that no verdict can come of
├── BadScores         scores from elsewhere that cannot be: every mistake of them at once, with its row
├── DataProblem       data that are missing, corrupt, or not what they should be
├── StoreProblem      a folder of runs that cannot be read or written, or a run that is not there
├── BadBundle         a file that is no bundle of runs: one line for each reason
├── NotExported       a network that an exporter or a runtime refuses: who, which operator, why
└── Failed            work that was begun and came to nothing (exit code 1: nothing was asked wrongly)
    ├── OutOfMemory   a run for which this machine has not the memory
    ├── MachineFault  a device or another process that failed under a run
    └── Diverged      a loss that is not finite

Terminated is no mistake but a KeyboardInterrupt: SIGTERM came, with exit code 143.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager


class AttnbenchError(Exception):
    """For a message of one line that says what, with which value, and what would work."""

    exit_code = 2
    trace = ""
    """The traceback of the user's own code, where that is where the mistake is."""


class BadReference(AttnbenchError):
    """For a name or an option that no registry knows."""


class ForeignError(AttnbenchError):
    """For what somebody's own code raised: one line that says where and for what, and the traceback of that code."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace


class BadSpec(AttnbenchError):
    """For a run that cannot be; `mistakes` maps each field to what is wrong with it."""

    def __init__(self, mistakes: dict[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {what}" for field, what in mistakes.items()))
        self.mistakes = mistakes


class BadStudy(AttnbenchError):
    """For a study file with mistakes: one line each."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        super().__init__("\n".join(mistakes))


class BudgetTooSmall(AttnbenchError):
    """For a budget that no verdict can come of, told before any of it is spent."""


class BadScores(AttnbenchError):
    """For scores of runs made elsewhere with mistakes: one line each."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        super().__init__("\n".join(mistakes))


class DataProblem(AttnbenchError):
    """For data that are missing, corrupt, or not what they should be."""


class StoreProblem(AttnbenchError):
    """For a folder of runs that cannot be used as asked."""


def writing(what: object) -> AbstractContextManager[None]:
    """Say in one line what keeps a file or a folder of runs from being written.

    Raises:
        StoreProblem: the block raised an OSError.
    """
    return _told(what, "written", StoreProblem)


def reading(what: object) -> AbstractContextManager[None]:
    """Say in one line what keeps data from being read.

    Raises:
        DataProblem: the block raised an OSError.
    """
    return _told(what, "read", DataProblem)


@contextmanager
def _told(what: object, done: str, kind: type[AttnbenchError]) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise kind(f"{what} cannot be {done}: {problem.strerror or problem}") from None


class BadBundle(AttnbenchError):
    """For a file that is no bundle of runs, or one that cannot be unpacked safely: one line for each reason."""

    def __init__(self, reasons: Iterable[str]) -> None:
        super().__init__("\n".join(reasons))


class NotExported(AttnbenchError):
    """For a network that an exporter or a runtime refuses; `operator` is empty where it names none."""

    def __init__(self, who: str, operator: str, reason: str) -> None:
        super().__init__(f"{who} refuses {operator or 'this network'}: {reason}")
        self.who, self.operator, self.reason = who, operator, reason


class Failed(AttnbenchError):
    """For work that was begun and came to nothing: what it lacks, and how to go on."""

    exit_code = 1


class OutOfMemory(Failed):
    """For a run for which this machine, or its device, has not the memory: no result of the run."""


class MachineFault(Failed):
    """For a device, or another process of a run, that failed under it: no result of the run."""


class Diverged(Failed):
    """For a training run whose loss is no longer finite."""

    child_exit_code = 3
    """What a study's child process ends with, so that its parent knows that trying again is no use."""


class Terminated(KeyboardInterrupt):
    """For SIGTERM: work ends as after Ctrl-C, with the exit code that a shell expects."""

    exit_code = 143
