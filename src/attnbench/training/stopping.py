"""Ctrl-C and SIGTERM while a run trains: the step in progress is finished and kept; a second one ends at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from attnbench.errors import Terminated
from attnbench.training.state import State


@contextlib.contextmanager
def stoppable(state: State) -> Iterator[None]:
    """Let a signal set `state.stop`, at which training hands back with a checkpoint after the step in progress.

    Raises:
        Terminated: training was interrupted inside, by SIGTERM; a KeyboardInterrupt by Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        if state.stop:
            raise KeyboardInterrupt("stopped at once")
        state.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt as stopped:
        if received[-1:] == [signal.SIGTERM]:
            raise Terminated(*stopped.args) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
