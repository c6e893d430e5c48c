"""A network in the forms that runtimes read, torch.export's program and ONNX, each for any number of images."""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.deploy.refusals import needed, refusing
from attnbench.errors import NotExported

TOLERANCE = 1e-5
"""Largest difference between logits, relative to the largest logit, at which an exported network computes the same."""
INPUT, OUTPUT = "images", "logits"
BATCH = "batch"
"""What a file calls the number of images, which is free."""
ABOUT = "attnbench.json"
"""The file inside a `.pt2` file that holds what it is about."""


class Forms:
    """A network and what is made of it; the forms are made when they are first asked for.

    Args:
        model: images in, logits B K out; in evaluation mode.
        example: images as the network takes them, 2 C H W; their number stays free, their size does not.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self.model, self.example = model.eval(), example

    @cached_property
    def program(self) -> Any:
        """What torch.export makes of it.

        Raises:
            NotExported: torch.export refuses it.
        """
        free = ({0: torch.export.Dim.DYNAMIC},)
        with refusing("torch.export"), torch.no_grad():
            program = torch.export.export(self.model, (self.example,), dynamic_shapes=free)
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of the machine that exported it
        return program

    @cached_property
    def onnx(self) -> bytes:
        """The same as an ONNX file: `images` to `logits`, weights inside.

        Raises:
            NotExported: torch.export or the ONNX exporter refuses it.
        """
        needed("onnx", "onnxscript")
        program = self.program
        with refusing("the ONNX exporter"):
            made: Any = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT]
            )
            return _tidied(made.model_proto)

    def eager(self, images: np.ndarray) -> np.ndarray:
        """What the network itself gives: logits N K."""
        with torch.inference_mode():
            found = self.model(torch.from_numpy(images).contiguous(memory_format=torch.channels_last))
        logits: np.ndarray = found.numpy()
        return logits


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference between two arrays of logits N K, relative to the largest of `expected`; inf if not finite."""
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1))


def check_parity(who: str, found: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """The difference of logits N K to those of the network itself.

    Raises:
        NotExported: it is above the tolerance.
    """
    apart = difference(found, expected)
    if apart > tolerance:
        reason = f"its logits differ by {apart:.1e} of the largest one, above {tolerance:g}"
        raise NotExported(who, "", reason)
    return apart


def write_onnx(file: Path, content: bytes, about: Mapping[str, str]) -> None:
    """Write an ONNX file with what it is about in its metadata."""
    import onnx

    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, dict(about))
    file.write_bytes(model.SerializeToString())


def write_openvino(file: Path, content: bytes, about: Mapping[str, str]) -> None:
    """Write an ONNX file as OpenVINO's two: the network as XML, what it is about in its `rt_info`; weights as `.bin`.

    Raises:
        NotExported: OpenVINO refuses the network.
    """
    import openvino

    with refusing("OpenVINO"):
        model = openvino.Core().read_model(content)
        for name, value in about.items():
            model.set_rt_info(value, ["attnbench", name])
        openvino.save_model(model, str(file), compress_to_fp16=False)


def write_pt2(file: Path, program: Any, about: Mapping[str, str]) -> None:
    """Write a program of torch.export, with what it is about in a file of its own inside."""
    torch.export.save(program, file, extra_files={ABOUT: json.dumps(about)})


def _tidied(model: Any) -> bytes:
    """Without the paths and names of the machine that exported it, and with the number of images called `batch`."""
    free = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(rf"\b{re.escape(free)}\b", BATCH, size.dim_param)
    for node in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del node.metadata_props[:]
    content: bytes = model.SerializeToString()
    return content
