"""A stored run as the predictor that was tested: weights, image size, normalisation, precision, mirror images."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from attnbench.data import Raw
from attnbench.data.batches import Batches
from attnbench.data.cache import Decoded
from attnbench.data.decode import decoding
from attnbench.data.splits import Split, Splits, load_splits
from attnbench.errors import DataProblem, StoreProblem
from attnbench.networks.network import network_of
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.asked import spec_of
from attnbench.store.record import input_mistake
from attnbench.store.runs import RunRecord, Store
from attnbench.training.loop import predict
from attnbench.training.numerics import choose_device, numerics
from attnbench.training.step import autocast


class Predictor(nn.Module):
    """What was tested: images as they are, B C H W, uint8 in 0..255 or float in 0..1, to logits B K.

    Raises:
        DataProblem: images of another size, number of channels, type or range than the run was trained on.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, record: RunRecord, spec: RunSpec) -> None:
        super().__init__()
        found = record.input
        self.model = model.to(memory_format=torch.channels_last)
        self.spec = spec
        self.image_size: int = found["image_size"]
        self.channels: int = found["channels"]
        self.names: tuple[str, ...] = tuple(found.get("names") or map(str, range(found["classes"])))
        """The classes, in the order of the logits."""
        mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in found["normalise"])
        self.register_buffer("scale", (1 / (255 * std)).float())  # in one product and one sum, as batches have it
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, images: Tensor) -> Tensor:
        self._check(images)
        levels = images.float() if images.dtype == torch.uint8 else 255 * images.float()
        x = (levels * self.scale + self.shift).contiguous(memory_format=torch.channels_last)
        with autocast(self.spec, x.device):
            logits: Tensor = self.model(x)
            return ((logits + self.model(x.flip(3))) / 2 if self.spec.tta == "flip" else logits).float()

    def _check(self, images: Tensor) -> None:
        wanted = (self.channels, self.image_size, self.image_size)
        if images.dim() != 4 or tuple(images.shape[1:]) != wanted:
            shape = "x".join(map(str, images.shape))
            raise DataProblem(
                f"images of shape {shape}: this run takes Bx{'x'.join(map(str, wanted))}; resize them as the reader "
                "does, bilinearly by Pillow (attnbench predict reads files so)"
            )
        if images.dtype == torch.uint8:
            return
        if not images.is_floating_point():
            raise DataProblem(f"images of type {images.dtype}: this run takes uint8 in 0..255 or floats in 0..1")
        low, high = images.min().item(), images.max().item()
        if not (low >= 0 and high <= 1):
            raise DataProblem(f"float images from {low:g} to {high:g}: this run takes floats in 0..1, or uint8")


def weights_into(model: nn.Module, file: Path) -> None:
    """Give a network the weights of a file of safetensors, which holds numbers and nothing else.

    Raises:
        StoreProblem: it cannot be read, or its weights are another network's.
    """
    try:
        model.load_state_dict(load_file(file))
    except (OSError, RuntimeError, SafetensorError, ValueError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise StoreProblem(f"{file} cannot be read ({reason}); delete the run's folder to train it again") from None


def splits_of(record: RunRecord, spec: RunSpec, data_dir: str, what: str = "trained") -> Splits:
    """The images of a stored run, as they lie there now.

    Args:
        what: what it was on these images, for the message.

    Raises:
        DataProblem: they are others than those of the run.
    """
    splits = load_splits(spec, data_dir)
    if splits.split_fingerprint != record.split_fingerprint:
        raise DataProblem(f"run {record.id} was {what} on other images than those in {data_dir}/")
    return splits


class Named(NamedTuple):
    """What a run says of image files."""

    names: tuple[str, ...]
    """The classes."""
    logits: Tensor
    """float32 N K."""


def load(run: str | Path | RunRecord, store: str | Path | None = None, code: Collection[str] = ()) -> Predictor:
    """The predictor that was tested: images B C H W of the trained size, uint8 or float in 0..1, to logits B K.

    `names` are its classes; `attnbench predict` reads image files for it.

    Args:
        run: a record, a run's id or the beginning of it, or a run's folder.
        store: the folder of runs; None for the default.
        code: `package.module:Object` that may be imported because the record names it; what this process asked for
            already (a spec of its own, a study) may be anyway.

    Raises:
        StoreProblem: no such run, one without weights, or one that names other code.
    """
    home = Store(store) if store else Store.default()
    record = run if isinstance(run, RunRecord) else home.holding(run).find(run)
    images, spec = record.input, spec_of(record, code)
    if wrong := input_mistake(record):
        raise StoreProblem(f"run {record.id} has a record that is none: {wrong}")
    model = network_of(spec, images["classes"], images["channels"], images["image_size"])
    file = Path(record.folder) / "weights.safetensors"
    if not file.is_file():
        raise StoreProblem(f"run {record.id} has no weights: {file} is not there")
    weights_into(model, file)
    return Predictor(model, record, spec).eval()


def predict_files(
    run: str | Path | RunRecord, files: Sequence[Path], runtime: Runtime, code: Collection[str] = ()
) -> Named:
    """Read image files as the data reader does, and predict them as the test images were, in batches of the run's size.

    Raises:
        StoreProblem: no such run, or one without weights.
        DataProblem: files that are missing or no images.
    """
    record = run if isinstance(run, RunRecord) else Store(runtime.store).holding(run).find(run)
    predictor, device = load(record, code=code), choose_device(runtime)
    for file in files:
        if not file.is_file():
            raise DataProblem(f"{file}: no such file")
    raw = Raw(list(files), np.zeros(len(files), np.int64))
    read = [
        image.values for part in decoding(raw, predictor.image_size, "images", predictor.channels) for image in part
    ]
    source = cast(Decoded, Raw(np.stack(read), raw.labels))  # all that batches look at
    split = Split("given", source, np.arange(len(files)))
    threads = Runtime(device=runtime.device, threads=record.numerics["threads"], tracker="none")
    with numerics(predictor.spec, threads, device):
        batches = Batches(split, predictor.spec, record.input["normalise"], device)
        return Named(predictor.names, predict(predictor.model.to(device), batches).logits)
