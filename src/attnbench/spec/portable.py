"""Portable numerics: the libraries are held to the instructions that every processor with AVX2 has; needs no torch."""

import platform
from pathlib import Path

from attnbench.errors import BadSpec

PINS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    "MKL_CBWR": "COMPATIBLE",
}
"""Environment variables that torch's own kernels, oneDNN and MKL read when they first compute.

MKL's AVX2 branch falls back to its own choice on processors that are not Intel's; its COMPATIBLE branch does not.
"""


WORDS = {"cpu_capability": "torch's instructions", "onednn": "oneDNN's instructions", "mkl": "MKL's branch"}
"""How these numerics are called in a sentence."""


def lacking() -> str:
    """Why portable numerics cannot be had on this machine; empty where they can."""
    machine = platform.machine()
    if machine.lower() not in ("x86_64", "amd64"):
        return f"an {machine} processor has no AVX2"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "/proc/cpuinfo, which would name AVX2, cannot be read"
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return "" if {"avx2", "fma"} <= set(flags) else "this processor has no AVX2"


def pins(numerics: str | None) -> dict[str, str]:
    """The environment variables that a process of these numerics needs before it computes anything.

    Raises:
        BadSpec: portable numerics on a machine that cannot have them.
    """
    if numerics != "portable":
        return {}
    if why := lacking():
        raise BadSpec({"numerics": f"'portable' cannot be had here: {why}; 'native' works"})
    return dict(PINS)
