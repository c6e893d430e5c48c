"""What becomes of a module outside of training: exported, traced, in half precision, in ONNX Runtime."""

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attnbench.examine.promises import CHANNELS, DoesNotApply, Subject, images, promise, unequal

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""What an ONNX export and its run need; all of them are optional."""
FREE = torch.export.Dim.DYNAMIC


@promise("is exported by torch.export")
def _is_exported(subject: Subject) -> Iterator[str]:
    module, x = subject.redrawn().eval(), images(2, CHANNELS, 6, 6)
    exported = _exported(module, x)
    yield from unequal(exported(x), module(x), "the exported module gives other outputs")


@promise("is exported and traced for any number of images")
def _has_a_free_batch(subject: Subject) -> Iterator[str]:
    module, other = subject.redrawn().eval(), images(5, CHANNELS, 6, 6)
    expected = module(other)
    exported = _exported(module, images(2, CHANNELS, 6, 6), {0: FREE})
    yield from unequal(exported(other), expected, "exported with 2 images, gives other outputs for 5")
    for batch in (1, 2):
        traced = _traced(module, images(batch, CHANNELS, 6, 6))
        yield from unequal(traced(other), expected, f"traced with {batch} of them, gives other outputs for 5 images")


@promise("is exported for maps of any size, unless it is built for one")
def _has_a_free_size(subject: Subject) -> Iterator[str]:
    if "size" in subject.choice.entry.arguments:
        raise DoesNotApply("it is built for maps of one size")
    module, other = subject.redrawn().eval(), images(2, CHANNELS, 24, 17)
    exported = _exported(module, images(2, CHANNELS, 18, 20), {2: FREE, 3: FREE})
    yield from unequal(exported(other), module(other), "exported on 18x20, gives other outputs on 24x17")


@promise("is finite in float16, also where a sum over the map is not")
def _is_finite_in_half(subject: Subject) -> Iterator[str]:
    module, x = subject.build().eval(), images(1, CHANNELS, 56, 56) + 22
    if not module(x).abs().max() < torch.finfo(torch.float16).max:
        raise DoesNotApply("its output is beyond float16 on a map of mean 22")
    y = module.half()(x.half())
    if not (y.dtype == torch.float16 and y.isfinite().all()):
        yield f"gives {y.dtype} values that are not finite, on a map of 56x56 and mean 22"


@promise("computes the same in ONNX Runtime, for any number of images")
def _runs_in_onnx_runtime(subject: Subject) -> Iterator[str]:
    if missing := [name for name in ONNX if importlib.util.find_spec(name) is None]:
        raise DoesNotApply(f"not installed: {', '.join(missing)}")
    import onnxruntime

    module, other = subject.redrawn().eval(), images(3, CHANNELS, 8, 8)
    with _silent():
        program: Any = torch.onnx.export(
            module, (images(2, CHANNELS, 8, 8),), dynamo=True, dynamic_shapes=({0: FREE},), verbose=False
        )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    yield from unequal(torch.from_numpy(output), module(other), "ONNX Runtime gives other outputs", 1e-3)


def _exported(module: nn.Module, x: Tensor, free: dict[int, Any] | None = None) -> Any:
    return torch.export.export(module, (x,), dynamic_shapes=(free,) if free else None).module()


def _traced(module: nn.Module, x: Tensor) -> Any:
    with _silent():
        return torch.jit.trace(module, (x,), check_trace=False)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what exporters say of themselves."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
