"""A trained run tested with other gates than its own: is a gate specific to its image, does accuracy depend on it?"""

import dataclasses
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.data.batches import Batches
from attnbench.data.splits import Split, load_splits
from attnbench.errors import AttnbenchError, DataProblem
from attnbench.seeding import stream
from attnbench.spec.run import Runtime
from attnbench.store import predictions as predictions_file
from attnbench.store.asked import spec_of
from attnbench.store.runs import RunRecord, Store
from attnbench.training.loop import predict
from attnbench.training.numerics import choose_device, numerics
from attnbench.training.predictor import load
from attnbench.training.run import scores

Gate = Literal["shuffled", "mean"]
Swap = Callable[[Tensor], Tensor]


def evaluate(run: str, gate: Gate, runtime: Runtime, code: Collection[str] = ()) -> dict[str, Any]:
    """Test a stored run with other gates, and keep what came out beside the run; nothing is trained.

    `shuffled` gives every image the gates of another test image, drawn at random; `mean` gives all images the mean
    gates of the training images. Gates are what `gate(x)` gives at each site while the network runs as trained.

    Args:
        run: an id, the beginning of one, or a run's folder.
        code: `package.module:Object` that may be imported because the record names it.

    Returns:
        `gate`, `accuracy` in percent, `loss`, `images` and `sites`.

    Raises:
        StoreProblem: no such run.
        AttnbenchError: the run has no gates that look at the image.
        DataProblem: the data are not those that the run was tested on.
    """
    if gate not in get_args(Gate):
        raise AttnbenchError(f"gate {gate!r} is not one of {', '.join(map(repr, get_args(Gate)))}")
    store = Store(runtime.store).holding(run)
    record = store.find(run)
    if record.scored != "test":
        raise AttnbenchError(f"run {record.id} was scored on validation images only; gates are changed in tested runs")
    with store.lock(record.id):
        done = record.gates.get(gate)
        return done if done is not None else _evaluated(store, record, gate, runtime, code)


def _evaluated(store: Store, record: RunRecord, gate: Gate, runtime: Runtime, code: Collection[str]) -> dict[str, Any]:
    spec, device = spec_of(record, code), choose_device(runtime)
    splits = load_splits(spec, runtime.data_dir)
    if splits.split_fingerprint != record.split_fingerprint:
        raise DataProblem(f"run {record.id} was tested on other images than those in {runtime.data_dir}/")
    order = np.random.default_rng(stream(spec.seed, "gate")).permutation(len(splits.scored))
    test, train = _shuffled(splits.scored, order), splits.train
    model, constants = load(record, code=code).model.to(device), record.input["normalise"]
    sites = _gated(model, record)
    with numerics(spec, runtime, device) as bits:
        if gate == "mean":
            _swap(sites, _means(model, sites, Batches(train, spec, constants, device)))
        else:
            _swap(sites, [_of_the_one_before for _ in sites])
            model = _Twice(model)
        store.log(record.id, "test", reading=f"gate {gate}", images=len(test))
        predicted = predict(model, Batches(test, spec, constants, device))
    place = torch.from_numpy(np.argsort(order))
    predicted = predicted._replace(logits=predicted.logits[place], labels=predicted.labels[place])
    found = {"gate": gate, **scores(predicted), "sites": len(sites), "numerics": bits}
    predictions_file.write(Path(record.folder) / f"gate-{gate}.npz", predicted.logits.numpy(), predicted.labels.numpy())
    store.write(record.id, f"gate-{gate}.json", json.dumps(found, indent=1))
    return found


def _gated(model: nn.Module, record: RunRecord) -> list[nn.Module]:
    """The modules that multiply by a gate of the image, outermost first."""
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{above}.") for above in found)
        if callable(getattr(type(module), "gate", None)) and not inside:
            found[path] = module
    if not found:
        raise AttnbenchError(
            f"run {record.id}: {record.spec['attention']} has no gate(x); se and cbam are examples that have one"
        )
    return list(found.values())


def _swap(sites: list[nn.Module], swaps: list[Swap]) -> None:
    """Let each site multiply by what `swap` makes of its gate."""
    for site, swap in zip(sites, swaps, strict=True):
        site.forward = _forward(site, swap)


def _forward(site: Any, swap: Swap) -> Callable[[Tensor], Tensor]:
    return lambda x: x * swap(site.gate(x))


class _Twice(nn.Module):
    """Each batch twice in one pass: as trained, which gives the gates, and with the gates of other images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(torch.cat([x, x]))
        return logits[len(x) :]


def _of_the_one_before(gates: Tensor) -> Tensor:
    """The first half keeps its gates; in the second each image has those that the image before it has in the first.

    The batches are drawn at random. A gate that does not look at the image has one row, and a last batch may have one
    image: those stay as they are.
    """
    if len(gates) == 1:
        return gates
    own = gates[: len(gates) // 2]
    return torch.cat([own, own.roll(1, 0)])


def _means(model: nn.Module, sites: list[nn.Module], train: Batches) -> list[Swap]:
    """Run the training images through the network as it is, and keep each site's mean gate."""
    sums: list[Any] = [0.0 for _ in sites]
    rows = [0 for _ in sites]  # not images: a gate that does not look at the image has one row a batch

    def adding(place: int) -> Swap:
        def add(gates: Tensor) -> Tensor:
            sums[place] = sums[place] + gates.double().sum(0, keepdim=True)
            rows[place] += len(gates)
            return gates

        return add

    own = [site.forward for site in sites]
    _swap(sites, [adding(place) for place in range(len(sites))])
    predict(model, train)
    for site, forward in zip(sites, own, strict=True):
        site.forward = forward
    return [_constant(total / count) for total, count in zip(sums, rows, strict=True)]


def _constant(mean: Tensor) -> Swap:
    return lambda gates: mean.to(gates.dtype)


def _shuffled(split: Split, order: np.ndarray) -> Split:
    return dataclasses.replace(split, indices=split.indices[order])
