"""The verbs of the command line: signatures and help; each imports its work inside."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import tyro

from attnbench.catalogue.foreign import told
from attnbench.catalogue.refs import nearest
from attnbench.cli.catalogue import data, list_, show
from attnbench.cli.choosing import advise, choose
from attnbench.cli.deploying import export
from attnbench.cli.examining import check, profile, same
from attnbench.cli.flags import check_names, run_flags
from attnbench.cli.help import described, plain
from attnbench.cli.planning import power, tune, variance
from attnbench.cli.reading import compare, evaluate, fold, predict, report, reproduce
from attnbench.cli.scoring import verdict
from attnbench.cli.sharing import leaderboard, submit, verify
from attnbench.cli.starting import demo, init
from attnbench.cli.storing import store_
from attnbench.cli.tracking import sync, ui
from attnbench.cli.training import run_verb, study
from attnbench.console import printable
from attnbench.errors import AttnbenchError, Terminated

VERBS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "init": init,
    "study": study,
    "choose": choose,
    "advise": advise,
    "power": power,
    "variance": variance,
    "tune": tune,
    "report": report,
    "compare": compare,
    "verdict": verdict,
    "submit": submit,
    "verify": verify,
    "leaderboard": leaderboard,
    "list": list_,
    "show": show,
    "check": check,
    "same": same,
    "profile": profile,
    "data": data,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "fold": fold,
    "reproduce": reproduce,
    "store": store_,
    "sync": sync,
    "ui": ui,
}


ABOUT = """Does visual attention help your CNN, and at what cost?

attnbench VERB --help has the flags of a verb, and an example."""


def main(argv: list[str] | None = None) -> None:
    """Run one verb; a mistake of the user's is one line on stderr and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--version"]:
        from attnbench import __version__

        print(f"attnbench {__version__}")
        return
    with _plain_errors(argv), _terminable():
        check_names(argv)
        verbs = {"run": run_verb(run_flags(argv)), **VERBS}
        sys.exit(_called(verbs, argv) or 0)


def _called(verbs: Mapping[str, Callable[..., int]], argv: Sequence[str]) -> int:
    """What the verb returns that a command line names; where it names none, help on all of them or a mistake.

    Raises:
        AttnbenchError: what it names is nearly a verb.
    """
    name = argv[0] if argv else ""
    if name in verbs:  # only this one is read: no flag of another is suggested
        about = described(name, verbs[name])
        return tyro.cli(plain(verbs[name]), prog=f"attnbench {name}", args=argv[1:], description=about)
    if name and not name.startswith("-") and (meant := nearest(name, verbs)):
        raise AttnbenchError(f"there is no verb {name!r}{meant} (attnbench --help shows them)")
    shown = {each: plain(verb) for each, verb in verbs.items()}
    return int(tyro.extras.subcommand_cli_from_dict(shown, prog="attnbench", args=argv, description=ABOUT) or 0)


GOES_ON = {"run", "study", "demo", "choose", "variance", "tune", "profile", "data"}
"""Verbs that go on from where they were stopped."""


@contextlib.contextmanager
def _plain_errors(argv: Sequence[str]) -> Iterator[None]:
    before = threading.enumerate()
    try:
        yield
    except AttnbenchError as problem:
        _tell(problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt as stopped:
        then = "goes on from here" if argv and argv[0] in GOES_ON else "begins anew"
        print(f"attnbench: {str(stopped).strip() or 'stopped'}; the same command {then}", file=sys.stderr)
        _leave(getattr(stopped, "exit_code", 130), before)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as problem:
        known = told(problem, "; ".join(getattr(problem, "__notes__", ())))
        if known is None:
            raise  # a bug of ours
        _tell(known)
        sys.exit(1)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the verb as Ctrl-C does; a verb that has a way of its own with it takes that."""

    def terminate(_number: int, _frame: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(code: int, before: Sequence[threading.Thread]) -> None:
    """End; at once where a second Ctrl-C came while threads of this verb still wait for children, who hear of it."""
    if any(not thread.daemon for thread in threading.enumerate() if thread not in before):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)


def _tell(problem: AttnbenchError) -> None:
    """Print a problem: the traceback of the user's own code, where there is one, and a line for each mistake."""
    for line in problem.trace.splitlines():
        print(line, file=sys.stderr)
    for line in str(problem).splitlines():
        print(f"attnbench: {printable(line)}", file=sys.stderr)
