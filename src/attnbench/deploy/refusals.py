"""What exporters and runtimes refuse, told in one line with the operator; and that what they need is installed."""

import contextlib
import importlib.util
import io
import linecache
import logging
import re
import sysconfig
import traceback
import warnings
from collections.abc import Iterator

from attnbench.console import first_line
from attnbench.errors import AttnbenchError, NotExported

EXTRA = 'pip install "attnbench[deploy]"'
_OPERATORS = (
    r"OpOverload\(op='([\w.]+)'",  # torch.onnx has no function for it
    r"No conversion rule found for operations: ([\w:.]+)",  # OpenVINO
    r"(?:implementation for|Unsupported operator:?) ([\w.:]+)",  # ONNX Runtime
    r"([\w.:]+)\(-?\d+\) is not a registered function/op",
    r"running ([A-Z]\w+) node",
    r"OpType: (\w+)",
)
_READS_A_VALUE = "data-dependent"
_ONE_SIZE = "specialized it to be a constant"
_PACKAGES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def needed(*packages: str) -> None:
    """Make sure that optional packages are there, without importing them.

    Raises:
        AttnbenchError: one is not installed.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise AttnbenchError(f"not installed: {', '.join(missing)}; {EXTRA} installs what deployment needs")


@contextlib.contextmanager
def refusing(who: str) -> Iterator[None]:
    """Let `who` work in silence; whatever it raises is a refusal with the operator, as far as it says one.

    Raises:
        NotExported: it refused.
    """
    logged = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    except AttnbenchError:
        raise
    except Exception as problem:  # each library has exceptions of its own, some of them none of Exception's children
        raise NotExported(who, operator_of(problem), _reason(problem)) from problem
    finally:
        logging.disable(logged)


def operator_of(problem: BaseException) -> str:
    """The operator that an exporter or a runtime did not take, as it calls it; empty where it names none."""
    text = _chain(problem)
    for pattern in _OPERATORS:
        if found := re.search(pattern, text):
            return found[1]
    return "aten.item" if _READS_A_VALUE in text else ""


def _reason(problem: Exception) -> str:
    """What it says, and the line of the module that it says it of."""
    if _ONE_SIZE in str(problem):
        return "it takes one number of images only: its code counts them, or goes through them one by one"
    last = re.findall(r"(?:Error|Exception)'>: (.+?)(?: Failure message.*)?\n", f"{problem}\n")
    why = last[0] if last else first_line(problem)
    where = _place(problem)
    return f"{why} ({where})" if where else why


def _place(problem: Exception) -> str:
    """File, line and code of the innermost frame that is nobody's package: the module that is exported."""
    told = re.findall(r'File "(.+?)", line (\d+), in \w+\n', str(problem))
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(problem.__traceback__)]
    for name, line in reversed([*frames, *((name, int(line)) for name, line in told)]):
        if not name.startswith((*_PACKAGES, "<")) and "/attnbench/deploy/" not in name.replace("\\", "/"):
            code = linecache.getline(name, line).strip()
            return f"{name.replace(chr(92), '/').rsplit('/', 1)[-1]}:{line}: {code}"
    return ""


def _chain(problem: BaseException | None) -> str:
    """The words of an exception and of those that it came of."""
    words = []
    while problem is not None:
        words.append(str(problem))
        problem = problem.__cause__ or problem.__context__
    return "\n".join(words)
