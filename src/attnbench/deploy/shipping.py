"""A stored run as one file for another program: normalisation inside, classes in its metadata, its logits checked."""

import contextlib
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.catalogue.refs import nearest
from attnbench.data.splits import Split
from attnbench.deploy import snippets
from attnbench.deploy.exporting import Forms, check_parity, write_onnx, write_openvino, write_pt2
from attnbench.deploy.parity import logits_of
from attnbench.deploy.quantising import CALIBRATION, accuracy, quantised, some
from attnbench.deploy.refusals import needed
from attnbench.deploy.runtimes import Run, onnxruntime, openvino, pt2_file
from attnbench.errors import AttnbenchError, writing
from attnbench.spec.run import Runtime
from attnbench.store.asked import spec_of
from attnbench.store.environment import environment
from attnbench.store.runs import RunRecord, Store
from attnbench.training.predictor import Predictor, load, splits_of

Format = Literal["onnx", "pt2", "openvino"]
ENDINGS: Mapping[str, str] = {"onnx": ".onnx", "pt2": ".pt2", "openvino": ".xml"}
NEEDED: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "pt2": (),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
}


class Shipped(nn.Module):
    """What is exported: images uint8 B C H W of the trained size to logits B K, in the same sums as in the predictor.

    Its checks of the images stay behind: no exporter takes them.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model = predictor.model.to(memory_format=torch.contiguous_format)
        self.flip = predictor.spec.tta == "flip"
        self.register_buffer("scale", predictor.scale)
        self.register_buffer("shift", predictor.shift)

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() * self.scale + self.shift  # B C H W
        logits: Tensor = self.model(x)
        return (logits + self.model(x.flip(3))) / 2 if self.flip else logits


@dataclass(frozen=True)
class Drop:
    """What INT8 costs: percent of the images that the run was scored on."""

    accuracy: float
    before: float
    images: int
    split: str

    @property
    def points(self) -> float:
        """How much less is right, in percentage points."""
        return self.before - self.accuracy


@dataclass(frozen=True)
class Shipment:
    """A file that was written, and what was found when it was checked."""

    file: Path
    apart: float | None
    """Largest difference of its logits to the network's, relative to the largest; None for INT8."""
    drop: Drop | None
    """None for float32."""
    lines: str
    """A few lines of Python that predict with it on a JPEG, without this package."""


def export(
    run: str | Path, to: str, output: Path | None, runtime: Runtime, int8: bool = False, code: Collection[str] = ()
) -> Shipment:
    """Write a stored run as one file that takes uint8 images B C H W; it is there once it computes what the run does.

    Args:
        to: onnx, pt2 or openvino.
        output: the file; None for the run's id in the working folder.
        int8: quantise it on training images of the run, and test it on the images that the run was scored on.
        code: `package.module:Object` that may be imported because the record names it.

    Raises:
        AttnbenchError: an unknown format, or an extra that is not installed.
        StoreProblem: no such run, one without weights, or a file that cannot be written.
        NotExported: an exporter refuses the network, or the file computes something else.
        DataProblem: INT8, and the data are not those of the run.
    """
    _check(to, int8, output)
    store = Store(runtime.store).holding(run)
    record, spec = store.find(run), spec_of(store.find(run), code)
    predictor = load(record, code=code)
    forms = Forms(Shipped(predictor), torch.from_numpy(noise(predictor, 2)))
    splits = splits_of(record, spec, runtime.data_dir) if int8 else None
    content = quantised(forms.onnx, some(splits.train, CALIBRATION)[0]) if splits else None
    file = output or Path(f"{record.id}{'-int8' if int8 else ''}{ENDINGS[to]}")
    if splits:
        store.read_again(record, f"INT8 by {to}", len(splits.scored))
    with _placing(file) as draft:
        _write(draft, to, forms, content, about(record, predictor, int8))
        runs, apart, drop = _READERS[to](draft, 1), None, None
        if splits:
            drop = dropped(forms.eager, runs, splits.scored)
        else:
            images = [noise(predictor, count) for count in (1, 3)]
            apart = max(check_parity(to, runs(each), forms.eager(each)) for each in images)
    return Shipment(file, apart, drop, snippets.lines(to, file))


def about(record: RunRecord, predictor: Predictor, int8: bool) -> dict[str, str]:
    """What a file says of itself, all as text: run, data set, classes, what images it takes, and versions."""
    channels, side = predictor.channels, predictor.image_size
    return {
        "run": record.id,
        "dataset": predictor.spec.dataset,
        "backbone": predictor.spec.backbone,
        "attention": predictor.spec.attention,
        "names": json.dumps(predictor.names, ensure_ascii=False),
        "image_size": str(side),
        "mode": "L" if channels == 1 else "RGB",
        "input": f"uint8 in 0..255, batch x {channels} x {side} x {side}",
        "precision": "int8" if int8 else "fp32",
        "versions": json.dumps(environment()["packages"]),
    }


def noise(predictor: Predictor, count: int) -> np.ndarray:
    """So many images of nothing, as the file takes them: uint8 N C H W."""
    shape = (count, predictor.channels, predictor.image_size, predictor.image_size)
    return np.random.default_rng(count).integers(0, 256, shape, np.uint8)


def dropped(before: Run, after: Run, split: Split) -> Drop:
    """The accuracy of a network and of its INT8 form on the images of a split."""
    images, labels = some(split)
    found = [accuracy(logits_of(run, images), labels) for run in (before, after)]
    return Drop(found[1], found[0], len(split), split.name)


def _check(to: str, int8: bool, output: Path | None) -> None:
    if to not in ENDINGS:
        raise AttnbenchError(
            f"--to {to}: no such format{nearest(to, ENDINGS)}; known are {', '.join(get_args(Format))}"
        )
    if int8 and to == "pt2":
        raise AttnbenchError("--int8 goes with --to onnx and --to openvino; a pt2 file stays in float32")
    if to == "openvino" and output is not None and output.suffix != ENDINGS[to]:
        raise AttnbenchError(f"--output {output}: OpenVINO reads files that end in .xml, such as {output.stem}.xml")
    needed(*NEEDED[to])


@contextlib.contextmanager
def _placing(file: Path) -> Iterator[Path]:
    """A file in a folder of its own, whose files take their places at the end, beside each other.

    Raises:
        StoreProblem: they cannot be written there.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".exporting-", dir=file.parent) as folder:
            yield Path(folder) / file.name
            for made in sorted(Path(folder).iterdir()):
                made.replace(file.parent / made.name)


def _write(file: Path, to: str, forms: Forms, content: bytes | None, meta: Mapping[str, str]) -> None:
    if to == "pt2":
        write_pt2(file, forms.program, meta)
    else:
        {"onnx": write_onnx, "openvino": write_openvino}[to](file, content or forms.onnx, meta)


def _onnx_file(file: Path, threads: int) -> Run:
    return onnxruntime(file.read_bytes(), threads)


_READERS = {"onnx": _onnx_file, "openvino": openvino, "pt2": pt2_file}
"""Format -> the runtime that runs its file."""
