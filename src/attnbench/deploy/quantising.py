"""Static INT8: an ONNX file whose convolutions and products are quantised on real images, for any runtime that reads it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attnbench.data.splits import Split
from attnbench.deploy.exporting import INPUT
from attnbench.deploy.refusals import needed, refusing

CALIBRATION = 128
"""Training images whose ranges of activations are taken."""
BATCH = 16
QUANTISED = ("Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "GlobalAveragePool")
"""Operators that compute in INT8; the others, gates and softmax among them, stay in float32."""


def quantised(content: bytes, images: np.ndarray) -> bytes:
    """The network of an ONNX file in INT8: pairs of QuantizeLinear and DequantizeLinear, one scale a channel of weights.

    Weights take 7 bits, since processors without VNNI would saturate on 8; activations take 8, from the least to the
    largest that `images` give.

    Args:
        images: real ones, as the network takes them, N C H W.

    Raises:
        NotExported: the quantiser refuses the network.
    """
    needed("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="attnbench-int8-") as folder, refusing("the INT8 quantiser"):
        plain, ready, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "int8"))
        plain.write_bytes(content)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(made),
            _reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return made.read_bytes()


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Percent of the images N whose largest logit of N K is their label's."""
    return float(100 * (logits.argmax(1) == labels).mean())


def some(split: Split, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images of a split, evenly spaced, as uint8 N C H W, and their labels N; all of them for None."""
    places = np.linspace(0, len(split) - 1, min(count or len(split), len(split))).astype(int)
    images: np.ndarray = np.array(split.source.images[split.indices[places]])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), split.labels[places]


def in_batches(images: np.ndarray, size: int = BATCH) -> Iterator[np.ndarray]:
    """The images N C H W, some at a time."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _reader(images: np.ndarray) -> Any:
    """The images as the quantiser asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        left = in_batches(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch, None at the end."""
            batch = next(self.left, None)
            return None if batch is None else {INPUT: batch}

    return Reader()
