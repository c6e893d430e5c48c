"""Static INT8: an ONNX file whose convolutions and products are quantised on real images, for any runtime."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.data.splits import Split, constants, load_splits
from attnbench.deploy.exporting import INPUT
from attnbench.deploy.refusals import needed, refusing
from attnbench.spec.run import RunSpec

CALIBRATION = 128
"""Training images whose ranges of activations are taken."""
BATCH = 16
QUANTISED = ("Conv", "Gemm", "MatMul", "Add", "Relu", "MaxPool", "GlobalAveragePool")
"""Operators that compute in INT8; the others, gates and softmax among them, stay in float32."""


def quantised(content: bytes, images: np.ndarray) -> bytes:
    """The network of an ONNX file in INT8: pairs of QuantizeLinear and DequantizeLinear, weights by channel.

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
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return made.read_bytes()


@dataclass(frozen=True)
class Real:
    """Real images for a network that was trained on none of them: float32 N 3 H W, normalised."""

    name: str
    """The data set."""
    calibration: np.ndarray
    """Of its training split."""
    held_out: np.ndarray
    """Of its test split."""

    @classmethod
    def of(cls, dataset: str, side: int, data_dir: str) -> "Real":
        """Images of a data set at `side` pixels, grey ones three times the same.

        Raises:
            BadReference: an unknown data set.
            DataProblem: data that are missing.
        """
        spec = RunSpec(dataset=dataset, image_size=side)
        splits = load_splits(spec, data_dir)
        mean, std = (np.array(each, np.float32)[:, None, None] for each in constants(spec, splits.train))

        def normalised(split: Split) -> np.ndarray:
            x = (some(split, CALIBRATION)[0] / np.float32(255) - mean) / std
            return np.ascontiguousarray(np.broadcast_to(x, (len(x), 3, side, side)))

        return cls(dataset, normalised(splits.train), normalised(splits.scored))


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


class _Reader:
    """Images as the quantiser asks for them: onnxruntime's CalibrationDataReader."""

    def __init__(self, images: np.ndarray) -> None:
        self._left = in_batches(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, None at the end."""
        batch = next(self._left, None)
        return None if batch is None else {INPUT: batch}
