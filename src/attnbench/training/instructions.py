"""The instructions that the libraries of this process compute with: what they say of them, and holding them to some."""

import contextlib
import ctypes
import functools
import os
import re
import sys
import tempfile
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from attnbench.errors import BadSpec
from attnbench.spec.portable import WORDS, pins

PORTABLE = {"cpu_capability": "AVX2", "onednn": "Intel AVX2", "mkl": "COMPATIBLE"}
"""What is in force where numerics are portable."""


def hold_to_portable() -> None:
    """Have the libraries of this process use the instructions of portable numerics from their first computation on.

    Raises:
        BadSpec: this machine cannot have them, or something was computed here before.
    """
    with _set(pins("portable")):
        found = instructions()
    if found != PORTABLE:
        uses = ", ".join(f"{WORDS[name]} {found[name]}" for name in PORTABLE if found[name] != PORTABLE[name])
        before = "must be asked for before torch computes anything in a process"
        raise BadSpec({"numerics": f"'portable' {before}, and this one has begun with {uses}; a new process works"})


@functools.cache
def instructions() -> dict[str, str]:
    """What torch's own kernels, oneDNN and MKL compute with in this process, as they say themselves.

    All three decide it once, at their first computation, which this is at the latest.
    """
    said = _said()
    onednn = re.search(r"^onednn_verbose.*,cpu,isa:(.+)$", said, re.MULTILINE)
    mkl = re.search(r"^MKL_VERBOSE.* CNR:(\w+)", said, re.MULTILINE)
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": onednn[1] if onednn else "unknown" if torch.backends.mkldnn.is_available() else "none",
        "mkl": mkl[1] if mkl else "unknown" if torch.backends.mkl.is_available() else "none",
    }


def _said() -> str:
    """What oneDNN and MKL print, when asked to, of a convolution and a product; what others print meanwhile goes on.

    Nothing where standard output is closed.
    """
    if sys.stdout is None:
        return ""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with tempfile.TemporaryFile() as file, contextlib.ExitStack() as verbose:
            os.dup2(file.fileno(), 1)
            for library in (torch.backends.mkldnn, torch.backends.mkl):
                if library.is_available():
                    verbose.enter_context(library.verbose(library.VERBOSE_ON))
            F.conv2d(torch.zeros(4, 16, 8, 8), torch.zeros(16, 16, 3, 3)).exp()
            torch.zeros(64, 64) @ torch.zeros(64, 64)
            verbose.close()
            ctypes.CDLL(None).fflush(None)
            os.dup2(kept, 1)
            file.seek(0)
            said = file.read().decode(errors="replace")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    others = [line for line in said.splitlines(keepends=True) if not line.startswith(("onednn_verbose", "MKL_VERBOSE"))]
    sys.stdout.write("".join(others))
    return said


@contextlib.contextmanager
def _set(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables, for as long as it takes: processes started later have none of them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
