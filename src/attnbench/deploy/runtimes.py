"""What runs an exported network: each runtime starts from a form of it, then turns images into logits, as numpy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attnbench.catalogue.refs import nearest
from attnbench.deploy.exporting import INPUT, Forms
from attnbench.deploy.refusals import needed, refusing
from attnbench.errors import AttnbenchError, NotExported

Run = Callable[[np.ndarray], np.ndarray]
"""Images N C H W, as the network takes them, to logits N K."""


def eager(forms: Forms, threads: int) -> Run:
    """The network itself, as PyTorch runs it."""
    torch.set_num_threads(threads)
    return forms.eager


def pt2(forms: Forms, threads: int) -> Run:
    """The program of torch.export, run by PyTorch.

    Raises:
        NotExported: torch.export refuses the network.
    """
    torch.set_num_threads(threads)
    return _called(forms.program)


def pt2_file(file: Path, threads: int) -> Run:
    """The same of a file."""
    torch.set_num_threads(threads)
    return _called(torch.export.load(file))


def _called(program: Any) -> Run:
    module = program.module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = module(torch.from_numpy(images)).numpy()
        return logits

    return run


def onnxruntime(content: bytes, threads: int) -> Run:
    """ONNX Runtime on the CPU.

    Raises:
        NotExported: it refuses the network.
    """
    return _running(_session(content, threads, "CPUExecutionProvider"))


def openvino(content: bytes | Path, threads: int) -> Run:
    """OpenVINO on the CPU, in float32 where the network is: by itself it takes bfloat16 where the processor has it.

    Raises:
        NotExported: it refuses the network.
    """
    needed("openvino")
    import openvino as ov

    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    with refusing("OpenVINO"):
        core = ov.Core()
        request = core.compile_model(core.read_model(content), "CPU", hints).create_infer_request()

    def run(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = request.infer({0: images}, share_inputs=True)[0]
        return logits

    return run


def tensorrt(content: bytes, threads: int) -> Run:
    """TensorRT by ONNX Runtime, copies to and from the device included. Written, never measured: no machine had it.

    Raises:
        NotExported: this ONNX Runtime cannot use TensorRT, or TensorRT refuses the network.
    """
    session = _session(content, threads, _TENSORRT)
    if _TENSORRT not in session.get_providers():  # ONNX Runtime falls back to the CPU in silence
        raise NotExported("TensorRT", "", "its libraries cannot be loaded here")
    return _running(session)


FROM_TORCH: dict[str, Callable[[Forms, int], Run]] = {"eager": eager, "pt2": pt2}
FROM_ONNX: dict[str, Callable[[bytes, int], Run]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "tensorrt": tensorrt,
}
"""These run INT8 files too."""
RUNTIMES = (*FROM_TORCH, *FROM_ONNX)
UNMEASURED = ("tensorrt",)
"""Written after the documentation of what they use, and never run by us."""
_TENSORRT = "TensorrtExecutionProvider"


def runtimes_of(text: str) -> tuple[str, ...]:
    """The runtimes that `onnxruntime,openvino` names, each once, in that order; what they need is installed.

    Raises:
        AttnbenchError: one is unknown, or an extra is not installed.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in names:
        if name not in RUNTIMES:
            raise AttnbenchError(
                f"no runtime is called {name!r}{nearest(name, RUNTIMES)}; known are {', '.join(RUNTIMES)}"
            )
    if any(name in FROM_ONNX for name in names):
        needed("onnx", "onnxscript", "onnxruntime", *(name for name in names if name == "openvino"))
    if "tensorrt" in names:
        _need_tensorrt()
    return names


def started(name: str, forms: Forms, threads: int) -> Run:
    """A runtime with a network in it.

    Raises:
        NotExported: an exporter or the runtime refuses the network.
    """
    return FROM_TORCH[name](forms, threads) if name in FROM_TORCH else FROM_ONNX[name](forms.onnx, threads)


def _need_tensorrt() -> None:
    import onnxruntime as ort

    if _TENSORRT not in ort.get_available_providers():
        raise AttnbenchError(
            "tensorrt: this onnxruntime was built without it; onnxruntime-gpu has it, with CUDA and TensorRT installed "
            "(written and never measured by us)"
        )


def _session(content: bytes, threads: int, provider: str) -> Any:
    needed("onnxruntime")
    import onnxruntime as ort

    with refusing("ONNX Runtime"):
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would slow the others
        return ort.InferenceSession(content, options, providers=[provider])


def _running(session: Any) -> Run:
    def run(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run(None, {INPUT: images})[0]
        return logits

    return run
