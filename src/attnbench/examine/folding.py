"""A trained run without its mechanism: a gate that is the same for every image, folded into the weights before it."""

import dataclasses
import json
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from attnbench.analysis.same_images import Change, change
from attnbench.data.batches import Batches
from attnbench.data.splits import Split, Splits
from attnbench.errors import AttnbenchError, BadReference, StoreProblem, writing
from attnbench.examine.gates import ROUNDING, Seen, apart, constant, exchangeable, seen, swap
from attnbench.files import replacing
from attnbench.networks.cost import cost
from attnbench.networks.folding import folded
from attnbench.networks.weights import weights_of
from attnbench.report.text import counted, interval
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.asked import spec_of
from attnbench.store.runs import RunRecord, Store
from attnbench.training.loop import Predicted, predict
from attnbench.training.numerics import choose_device, numerics
from attnbench.training.predictor import Predictor, load, splits_of

ALIKE = 1e-6
"""Spread of a gate over the training images, as a share of its largest value, up to which it is a constant."""


@dataclass(frozen=True)
class Folded:
    """A run without its mechanism, and the evidence that it does what the run did."""

    predictor: Predictor
    """Images as they are to logits, as `attnbench.load` gives it; its `model` is the plain backbone."""
    run: str
    sites: int
    spread: float
    """Largest difference between the gates of two training images, as a share of the site's largest gate."""
    margin: float
    """Percentage points."""
    validation: Change | None
    """Mean gates against the run's own on validation images; None where no gate looks at the image."""
    parity: float
    """Largest difference from the logits of the network with fixed gates, as a share of the largest logit; float32."""
    images: str
    """What the accuracies are of: test or validation."""
    accuracy: float
    """In percent, on the images that the run was scored on."""
    before: float
    """The run's own accuracy there."""
    cost: dict[str, int]
    cost_before: dict[str, int]

    def write(self, file: Path) -> tuple[Path, Path]:
        """Write the weights, under the names of the plain backbone, and beside them what shows that they are right.

        Raises:
            AttnbenchError: as for `prepare`.
        """
        prepare(file)
        told = file.with_suffix(".json")
        with writing(file), replacing(file, "wb") as target:
            target.write(save(weights_of(self.predictor.model)))
        with writing(told), replacing(told) as target:
            target.write(json.dumps(self.told(), indent=1) + "\n")
        return file, told

    def __str__(self) -> str:
        why = f"mean gates change validation accuracy by {_figures(self.validation)}" if self.validation else ""
        return (
            f"{counted(self.sites, 'gate')} folded: {why or 'they do not look at the image'}\n"
            f"logits as with fixed gates, to {self.parity:.1g} of the largest; {self.images} accuracy "
            f"{self.accuracy:.2f} %, {self.before:.2f} % before\n"
            f"{self.cost['parameters']:,} parameters and {self.cost['macs']:,} MACs, "
            f"{self.cost_before['parameters']:,} and {self.cost_before['macs']:,} before"
        )

    def told(self) -> dict[str, Any]:
        """The evidence, without the weights."""
        plain = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "predictor"}
        return plain | {"validation": self.validation and dataclasses.asdict(self.validation) | {"level": 0.9}}


def prepare(file: Path) -> None:
    """Make the folder of a file of weights, so that what keeps it from being written is said before the work.

    Raises:
        AttnbenchError: the evidence beside it would be the same file.
        StoreProblem: it cannot be written there.
    """
    if file.suffix.lower() == ".json":
        weights = file.with_suffix(".safetensors")
        raise AttnbenchError(f"{file}: this is where the evidence goes, as JSON; call the weights {weights}")
    if file.is_dir():
        raise StoreProblem(f"{file}/ is a folder; call the weights {file / 'plain.safetensors'}")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass


def fold(
    run: str | Path | RunRecord, margin: float = 0.5, runtime: Runtime | None = None, code: Collection[str] = ()
) -> Folded:
    """A run's network without its mechanism, at the cost of the plain one.

    Gates are fixed at their means over the training images, and fold into the norms or convolutions beside them. Where
    they do not look at the image that changes nothing. Where they do, the network with mean gates must be as accurate
    as the run's own, by two one-sided tests on validation images.

    Args:
        run: a record, a run's id or the beginning of it, or a run's folder.
        margin: the largest difference of accuracies, in percentage points, that does not matter.
        code: `package.module:Object` that may be imported because the record names it.

    Raises:
        AttnbenchError: no gate, one that cannot be folded, or one whose look at the image matters or may matter.
        StoreProblem: no such run.
        DataProblem: the data are not those that the run was trained on.
    """
    if not margin > 0:
        raise AttnbenchError(f"margin {margin:g}: must be above 0 percentage points; 0.5 is the default")
    runtime = runtime or Runtime()
    record = run if isinstance(run, RunRecord) else Store(runtime.store).holding(run).find(run)
    spec, device = spec_of(record, code), choose_device(runtime)
    if spec.attention == "none":
        raise AttnbenchError(f"run {record.id} has no mechanism: there is nothing to fold")
    splits = splits_of(record, spec, runtime.data_dir)
    exact = dataclasses.replace(spec, precision="fp32")
    with numerics(exact, runtime, device):
        return _folded(_Opened(record, exact, splits, device), load(record, code=code), margin)


@dataclass(frozen=True)
class _Opened:
    """A run and its data."""

    record: RunRecord
    spec: RunSpec
    splits: Splits
    device: torch.device

    def batches(self, split: Split) -> Batches:
        """The images of a split, as the run's network takes them."""
        return Batches(split, self.spec, self.record.input["normalise"], self.device)

    def said(self, model: nn.Module, split: Split) -> Predicted:
        """What a network says of the images of a split."""
        return predict(model, self.batches(split))


def _folded(run: _Opened, predictor: Predictor, margin: float) -> Folded:
    record, scored, model = run.record, run.splits.scored, predictor.model.to(run.device)
    train = run.batches(run.splits.train)
    sites, before = exchangeable(model, record, train), cost(model, _image(record))
    gates = seen(model, sites, train)
    spread = max(map(_spread, gates))
    validation = _fixed(run, model, sites, gates, margin if spread > ALIKE else None)
    plain = _plain(run, model)
    Store(Path(record.folder).parent).read_again(record, "fold", len(scored))
    now = run.said(plain, scored)
    return Folded(
        predictor=Predictor(plain.cpu(), record, run.spec).eval(),
        run=record.id,
        sites=len(sites),
        spread=spread,
        margin=margin,
        validation=validation,
        parity=_parity(record, now, run.said(model, scored)),
        images=record.images,
        accuracy=100 * float(_right(now).mean()),
        before=record.score,
        cost=cost(plain, _image(record)),
        cost_before=before,
    )


def _fixed(
    run: _Opened, model: nn.Module, sites: Sequence[nn.Module], gates: Sequence[Seen], margin: float | None
) -> Change | None:
    """Fix a network's gates at their means, and test that on validation images; None for gates that are constants."""
    means, val = [constant(each.mean) for each in gates], run.splits.val
    if margin is None:
        swap(sites, means)
        return None
    if val is None:
        raise AttnbenchError(
            f"run {run.record.id}: its gates look at the image, and without validation images nothing tells whether "
            "that matters; a run with val_fraction=0.1 has some"
        )
    own = _right(run.said(model, val))
    swap(sites, means)
    found = change(_right(run.said(model, val)), own)
    if not found.within(margin):
        raise AttnbenchError(
            f"run {run.record.id}: its gates look at the image, and their means change validation accuracy by "
            f"{_figures(found)}, not surely by less than {margin:g}: the mechanism stays"
        )
    return found


def _parity(record: RunRecord, one: Predicted, other: Predicted) -> float:
    """How far logits lie apart, as a share of the largest."""
    found = apart(one.logits, other.logits)
    if not found <= ROUNDING:
        raise AttnbenchError(
            f"run {record.id}: {record.spec['attention']} does more than multiply its maps by gate(x): without it, "
            f"logits differ from those with fixed gates by {found:.2g} of the largest"
        )
    return found


def _plain(run: _Opened, model: nn.Module) -> nn.Module:
    """The folded network of one with fixed gates."""
    try:
        return folded(model)
    except BadReference as problem:
        raise AttnbenchError(f"run {run.record.id} ({run.record.spec['attention']}): {problem}") from None


def _spread(gates: Seen) -> float:
    """How far a site's gates lie apart, channel by channel, as a share of its largest."""
    largest = torch.maximum(gates.low.abs(), gates.high.abs()).max()
    return float((gates.high - gates.low).max() / largest) if largest else 0.0


def _right(said: Predicted) -> np.ndarray:
    """Whether each image was classified rightly: bool N."""
    right: np.ndarray = (said.logits.argmax(1) == said.labels).numpy()
    return right


def _image(record: RunRecord) -> tuple[int, int, int]:
    """(channels, height, width) of what the network takes."""
    return record.input["channels"], record.input["image_size"], record.input["image_size"]


def _figures(found: Change) -> str:
    """A difference with its interval and n."""
    return f"{found.mean:+.2f} points {interval(found.low, found.high)} on {found.images:,} images"
