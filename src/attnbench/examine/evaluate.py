"""A trained run tested with other gates than its own: is a gate specific to its image, does accuracy depend on it?"""

import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.data.batches import Batches
from attnbench.data.splits import Split
from attnbench.errors import AttnbenchError
from attnbench.examine.gates import constant, exchangeable, seen, swap
from attnbench.seeding import stream
from attnbench.spec.run import Runtime
from attnbench.store import predictions as predictions_file
from attnbench.store.asked import spec_of
from attnbench.store.runs import RunRecord, Store
from attnbench.training.loop import predict
from attnbench.training.numerics import choose_device, numerics
from attnbench.training.predictor import load, splits_of
from attnbench.training.run import scores

Gate = Literal["shuffled", "mean"]


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
        AttnbenchError: the run has no gates, or gates that others cannot take the place of.
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
    splits = splits_of(record, spec, runtime.data_dir, "tested")
    order = np.random.default_rng(stream(spec.seed, "gate")).permutation(len(splits.scored))
    test = _shuffled(splits.scored, order)
    model, constants = load(record, code=code).model.to(device), record.input["normalise"]
    batches = Batches(splits.train, spec, constants, device)
    with numerics(spec, runtime, device) as bits:
        sites = exchangeable(model, record, batches)
        if gate == "mean":
            swap(sites, [constant(each.mean) for each in seen(model, sites, batches)])
        else:
            swap(sites, [_of_the_one_before for _ in sites])
            model = _Twice(model)
        store.read_again(record, f"gate {gate}", len(test))
        predicted = predict(model, Batches(test, spec, constants, device))
    place = torch.from_numpy(np.argsort(order))
    predicted = predicted._replace(logits=predicted.logits[place], labels=predicted.labels[place])
    found = {"gate": gate, **scores(predicted), "sites": len(sites), "numerics": bits}
    predictions_file.write(Path(record.folder) / f"gate-{gate}.npz", predicted.logits.numpy(), predicted.labels.numpy())
    store.write(record.id, f"gate-{gate}.json", json.dumps(found, indent=1))
    return found


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


def _shuffled(split: Split, order: np.ndarray) -> Split:
    return dataclasses.replace(split, indices=split.indices[order])
