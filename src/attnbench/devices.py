"""What differs between a CPU and a CUDA device: the one file that calls `torch.cuda`."""

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.backends import cudnn

from attnbench.errors import BadSpec

NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
"""Said by the CPU's allocator; by CUDA's driver; by cuBLAS and cuDNN."""
SHARE = 0.5
"""Of a device's free memory, what the images of one split may take."""


def available() -> bool:
    """Whether torch sees a CUDA device here."""
    return torch.cuda.is_available()


def has_mps() -> bool:
    """Whether torch can compute on an Apple GPU here."""
    return torch.backends.mps.is_available()


def on_card(device: torch.device) -> bool:
    """Whether it is a CUDA device, with memory and a queue of work of its own."""
    return device.type == "cuda"


def out_of_memory(problem: BaseException) -> bool:
    """Whether Python or torch could not have the memory that it asked for; torch often says so only in words."""
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(problem, RuntimeError) and any(words in str(problem) for words in NO_MEMORY)


def chosen(wanted: str) -> torch.device:
    """The device that is called so; for `auto` a CUDA device, if there is one.

    Raises:
        BadSpec: torch does not see it here.
    """
    if wanted == "auto":
        return mine(torch.device("cuda" if available() else "cpu"))
    if wanted.startswith("cuda") and not available():
        raise BadSpec({"device": f"{wanted!r}: torch sees no CUDA device here; 'cpu' works"})
    if wanted.startswith("mps") and not has_mps():
        raise BadSpec({"device": f"{wanted!r}: torch has no MPS (Apple GPU) here; 'cpu' works"})
    found = torch.device(wanted)
    if on_card(found) and (found.index or 0) >= (count := len(visible())):
        raise BadSpec({"device": f"{wanted!r}: torch sees {count} CUDA devices here, numbered from 0"})
    return mine(found)


def kind(recorded: str) -> str:
    """What `--device` is to be, to train on the kind of device that a record names; `cpu` where there is none here."""
    if recorded in ("cpu", "mps"):
        return recorded if recorded == "cpu" or has_mps() else "cpu"
    return "cuda" if available() else "cpu"  # then it is a card's name


def mine(device: torch.device) -> torch.device:
    """The CUDA device that is named, from now on this process's current one; without a number, that of `LOCAL_RANK`."""
    if not on_card(device) or (device.index is None and "LOCAL_RANK" not in os.environ):
        return device
    index = int(os.environ["LOCAL_RANK"]) if device.index is None else device.index
    torch.cuda.set_device(index)  # graphs and random streams are those of the current one
    return torch.device("cuda", index)


def name(device: torch.device) -> str:
    """`cpu`, or the name of the card."""
    return torch.cuda.get_device_name(device) if on_card(device) else device.type


def precision(asked: str, device: torch.device) -> str:
    """What a run computes in: fp32 on a CPU, where half precision is far slower, and fp16 on a card without bf16."""
    if not on_card(device):
        return "fp32"
    return "fp16" if asked == "bf16" and not _has_bf16() else asked


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _has_bf16() -> bool:
    found: bool = torch.cuda.is_bf16_supported(including_emulation=False)
    return found


def collectives() -> str:
    """The libraries by which processes that train together exchange tensors."""
    return "cpu:gloo,cuda:nccl" if available() else "gloo"


def visible() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls each device that torch sees; nothing is started on them."""
    named = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    count = torch.cuda.device_count()
    return (named or [str(number) for number in range(count)])[:count]


def room(device: torch.device) -> int:
    """Bytes that the images of a split may take on a device; 0 on a CPU, which reads them from the disk's cache."""
    return int(SHARE * torch.cuda.mem_get_info(device)[0]) if on_card(device) else 0


def send(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on a device; a CUDA device copies from pinned memory while the CPU goes on."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if on_card(device) else tensor.to(device)


class Sender:
    """Sends arrays to a device beside what it computes: to a CUDA device on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = _copying(device) if on_card(device) else None

    def send(self, *arrays: np.ndarray) -> Callable[[], tuple[Tensor, ...]]:
        """Begin to send; what is given back hands the tensors over, to work that the device does when they are there.

        Another thread than the one that computes may send.
        """
        if self._stream is None:
            there = tuple(send(array, self.device) for array in arrays)
            return lambda: there
        with torch.cuda.stream(self._stream):
            sent = tuple(send(array, self.device) for array in arrays)
            arrived = self._stream.record_event()

        def handed_over() -> tuple[Tensor, ...]:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_event(arrived)  # the device waits, not the processor
            for tensor in sent:
                tensor.record_stream(computing)  # its memory is not given to the next batch before that is done
            return sent

        return handed_over

    def mark(self) -> Callable[[], None]:
        """A function that waits until the device has done what it was asked for up to now."""
        if self._stream is None:
            return lambda: None
        done = torch.cuda.Event(blocking=True)
        done.record(torch.cuda.current_stream(self.device))
        return done.synchronize


@functools.cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """One stream for the whole process: torch has 32 and gives them out in turn, that of a recording among them."""
    return torch.cuda.Stream(device)


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked to do."""
    if on_card(device):
        torch.cuda.synchronize(device)


def generators() -> list[torch.Generator]:
    """torch's own random generators: the CPU's and, as soon as CUDA is in use, the current device's."""
    cuda = [torch.cuda.default_generators[torch.cuda.current_device()]] if torch.cuda.is_initialized() else []
    return [torch.default_generator, *cuda]


@contextlib.contextmanager
def peak(device: torch.device) -> Iterator[list[int]]:
    """Afterwards the list holds the most bytes that tensors took on a CUDA device, beyond what was there before."""
    found: list[int] = []
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield found
    found.append(torch.cuda.max_memory_allocated(device) - before)


@contextlib.contextmanager
def held_to(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Convolutions as precise as their numbers (no TF32), deterministic algorithms if asked for; memory goes back."""
    if not on_card(device):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic products need, before the first
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        with cudnn.flags(enabled=True, benchmark=not deterministic, deterministic=deterministic, allow_tf32=False):
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.cuda.empty_cache()


class Recorded:
    """Work on a CUDA device that is recorded as one graph of kernels, and from then on started at once.

    A small network waits for the processor, which starts its kernels one by one. For each shape of what is given, the
    first calls run as they are and the next one is recorded. The graph computes what the work does, to the bit.

    Args:
        work: takes tensors and gives one; it must do the same at every call, and not wait for the device.
    """

    EAGER = 3
    """Calls before the recording: libraries are loaded and an optimiser's state is made in them."""

    def __init__(self, work: Callable[..., Tensor]) -> None:
        self.work = work
        self._calls: Counter[object] = Counter()
        self._recordings: dict[object, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, *given: Tensor) -> Tensor:
        """What the work gives; the tensor of a recording is overwritten by the next call."""
        form = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in given)
        self._calls[form] += 1
        if self._calls[form] <= self.EAGER:
            return self.work(*given)
        if form not in self._recordings:
            self._recordings[form] = self._record(given)  # which computes nothing
        graph, taken, result = self._recordings[form]
        for kept, tensor in zip(taken, given, strict=True):
            kept.copy_(tensor)
        graph.replay()
        return result

    def _record(self, given: Sequence[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        """Graphs share their memory: none keeps anything in it that the next call still reads."""
        pool = next((graph.pool() for graph, _, _ in self._recordings.values()), None)
        taken, graph = [tensor.clone() for tensor in given], torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # other threads send batches
            result = self.work(*taken)
        return graph, taken, result
