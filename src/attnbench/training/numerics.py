"""What can change bits besides the spec: device, instructions, threads, layout, versions."""

import contextlib
import ctypes
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from attnbench import devices
from attnbench.networks.trial import is_foreign
from attnbench.spec.portable import WORDS
from attnbench.spec.run import RunSpec, Runtime
from attnbench.training.instructions import PORTABLE, hold_to_portable, instructions


def choose_device(runtime: Runtime) -> torch.device:
    """The device that was asked for; for `auto` a GPU, if there is one, and the CPU where numerics are portable.

    Raises:
        BadSpec: torch does not see it; portable numerics that cannot be had, or no longer in this process.
    """
    if runtime.numerics == "portable":
        hold_to_portable()
        return torch.device("cpu")
    return devices.chosen(runtime.device)


STEPS_TO_PAY = 50_000
"""Training steps from which compiling a network for a GPU pays: 29,000 to 44,000 on an H100 (docs/gpu.md)."""


def compiles(spec: RunSpec, runtime: Runtime, device: torch.device, images: int) -> bool:
    """Whether a run on so many training images is compiled, which follows from its length, so that it can go on."""
    if runtime.compile == "auto":
        return devices.on_card(device) and spec.epochs * images / spec.batch_size >= STEPS_TO_PAY
    return runtime.compile == "always"


def records(spec: RunSpec, runtime: Runtime) -> bool:
    """Whether steps are recorded as graphs: a user's code may draw or decide on the CPU, which a recording repeats."""
    ours = not is_foreign(spec.resolved.backbone) and not is_foreign(spec.resolved.attention)
    return runtime.graphs == "always" or (runtime.graphs == "auto" and ours)


@contextlib.contextmanager
def numerics(
    spec: RunSpec, runtime: Runtime, device: torch.device, compiled: bool = False, processes: int = 1
) -> Iterator[dict[str, Any]]:
    """Set what can change bits, and say what it was set to; memory goes back to the GPU afterwards."""
    before = torch.get_num_threads()
    threads = runtime.thread_count
    torch.set_num_threads(threads)
    keep_pages()
    try:
        with devices.held_to(device, spec.deterministic):
            yield {
                "device": devices.name(device),
                **instructions(),
                "portable": instructions() == PORTABLE and device.type == "cpu" and not compiled and processes == 1,
                "threads": threads,
                "compile": compiled,
                "layout": "channels_last",
                "precision": devices.precision(spec.precision, device),
                "torch": str(torch.__version__),  # a plain str: checkpoints load with weights_only
                **({"processes": processes} if processes > 1 else {}),  # batch norm sees the share of each
            }
    finally:
        torch.set_num_threads(before)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed between the numerics of two runs, in words: `threads 2 (now 1)`."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    words = []
    if "portable" in changed and before.get("portable"):
        words = ["portable numerics (now native; --numerics portable goes on)"]
    elif "portable" in changed and now.get("portable"):
        words = ["native numerics (now portable; --numerics native goes on)"]
    told = {"portable", *WORDS} if words else {"portable"}
    rest = [name for name in changed if name not in told]
    return ", ".join(
        words + [f"{WORDS.get(name, name)} {before.get(name, 1)} (now {now.get(name, 1)})" for name in rest]
    )


def keep_pages() -> None:
    """Let the C library keep the memory that a step frees: fresh pages cost more than what is computed in them.

    glibc gives blocks above 128 KiB back to the system and asks for them again in each step. Elsewhere nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in _MALLOPT.items():
            libc.mallopt(option, value)


_MALLOPT = {-3: 32 << 20, -1: 1 << 30, -2: 64 << 20}
"""M_MMAP_THRESHOLD (its largest value), M_TRIM_THRESHOLD and M_TOP_PAD of malloc.h, in bytes."""
