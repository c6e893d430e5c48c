"""One run: the method section of the paper, in code."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import nn

from attnbench.console import duration
from attnbench.data.splits import Splits, constants, load_splits
from attnbench.files import replacing
from attnbench.networks.cost import cost
from attnbench.networks.network import built_in
from attnbench.networks.weights import weights_digest, weights_of
from attnbench.spec.resolved import Constants
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store import predictions as predictions_file
from attnbench.store.environment import deciding, environment
from attnbench.store.mlflow import mirrored
from attnbench.store.runs import RunRecord, Store
from attnbench.store.view import View
from attnbench.training.done import finished
from attnbench.training.failing import marked, unfinished
from attnbench.training.loop import Pause, Predicted, predict, training
from attnbench.training.numerics import choose_device, compiles, numerics, records
from attnbench.training.progress import Told, Watched, telling
from attnbench.training.resuming import check_parts, heed, resume
from attnbench.training.starting import starting_network
from attnbench.training.state import State
from attnbench.training.step import How
from attnbench.training.stopping import stoppable
from attnbench.training.team import Team, gathered

Log = Callable[[RunSpec, dict[str, float]], None]


def print_epoch(spec: RunSpec, point: dict[str, float]) -> None:
    """One line on the console for a finished epoch."""
    val = f"  val {point['val_accuracy']:.2f} %" if "val_accuracy" in point else ""
    loss, accuracy, seconds = point["train_loss"], point["train_accuracy"], point["seconds"]
    ahead = spec.epochs - int(point["epoch"])
    left = f", about {duration(seconds * ahead)} left" if ahead else ""
    print(
        f"epoch {point['epoch']}/{spec.epochs}  loss {loss:.4f}  train {accuracy:.2f} %{val}  {seconds:.1f} s{left}",
        flush=True,
    )


def run(
    spec: RunSpec,
    runtime: Runtime | None = None,
    recipe: str = "",
    view: View | None = None,
    log: Log | None = None,
    splits: Splits | None = None,
) -> RunRecord:
    """Train, score once at the end, and store the record; an interrupted run carries on, a done one is not repeated,
    unless the images in the data folder are others by now.

    Args:
        recipe: the recipe's name, kept as a label.
        view: how MLflow shows the run; None for its fields as params.
        log: what is done with each epoch's point of the curves; None prints it, unless the tracker is `none`, which
            also leaves out how far an epoch or the test is.
        splits: its data, where they were opened already.

    Raises:
        Diverged: the loss was not finite; the run is marked failed.
        OutOfMemory: training, or its test with one image at a time, asked for more memory than there is; the run is not
            marked failed, and goes on from its checkpoint where there is more.
        AttnbenchError: anything else that the user can mend.
    """
    runtime = runtime or Runtime()
    store = Store(runtime.store)
    shown = log or (print_epoch if runtime.tracker != "none" else None)
    with gathered(spec) as team:
        job = _Job(spec, runtime, store, recipe, shown or _silent, team, splits)
        return _led(job, view) if team.first else _followed(job)


def _led(job: "_Job", view: View | None) -> RunRecord:
    """The record of a run, from the process that keeps the store."""
    spec, store, team = job.spec, job.store, job.team
    with store.lock(spec.id):
        found = finished(spec, store, job.runtime.data_dir)
        team.told(found is None)
        if found:
            _view(store, spec, view)
        else:
            mirror = mirrored(store, [spec.id], enabled=job.runtime.tracker == "mlflow")
            with mirror, marked(store, spec, job.recipe), telling(job.log is not _silent) as progress:
                store.begin(spec.id)
                _view(store, spec, view)
                _train_and_test(job, progress)
            found = store.find(spec.id)
        team.told(found)
        return found


def _followed(job: "_Job") -> RunRecord:
    """The record of a run, from a process that helps to train it."""
    if job.team.told(None):
        _train_and_test(job, _untold)
    record: RunRecord = job.team.told(None)
    return record


@dataclasses.dataclass(frozen=True)
class _Job:
    """A run, and how this process takes part in it."""

    spec: RunSpec
    runtime: Runtime
    store: Store
    recipe: str
    log: Log
    team: Team
    splits: Splits | None


def _untold(_what: str, _done: int, _total: int) -> None:
    """Say nothing of progress."""


def _silent(_spec: RunSpec, _point: dict[str, float]) -> None:
    """Say nothing of an epoch."""


def _train_and_test(job: _Job, progress: Told) -> None:
    """Train; the first process of a team tests, too, and writes the record."""
    environment()  # as it is now: a checkout may change while this trains
    spec, store, clock, device = job.spec, job.store, _Clock(), choose_device(job.runtime)
    splits = job.splits or load_splits(spec, job.runtime.data_dir)
    compiled = compiles(spec, job.runtime, device, len(splits.train))
    with numerics(spec, job.runtime, device, compiled, job.team.size) as bits:
        norm = constants(spec, splits.train)
        mark: dict[str, Any] = {"numerics": bits, "images": splits.split_fingerprint, "code": deciding()}
        state = _trained(job, splits, norm, device, mark, progress, clock)
        if not job.team.first:
            return
        selected = _select(spec, state)
        store.log(spec.id, spec.evaluate, reading="final evaluation", images=len(splits.scored))
        predicted = predict(state.model, Watched(splits.scored, spec, norm, device, told=progress))
        clock.lap("test")
    record = dataclasses.replace(
        unfinished(spec, job.recipe),
        status="done",
        test=scores(predicted) if spec.evaluate == "test" else {},
        val=scores(predicted) if spec.evaluate == "val" else {},
        selected=selected,
        curves=state.curves,
        input=_input(splits, norm) | {"built_in": built_in(state.model)},
        initial=mark["initial"],
        weights_sha256=_save(store.folder(spec.id), state.model, predicted),
        data_fingerprint=splits.data_fingerprint,
        split_fingerprint=splits.split_fingerprint,
        numerics=bits | ({"micro_batches": state.parts} if state.parts > 1 else {}),
        cost=cost(state.model, (splits.channels, splits.image_size, splits.image_size)),
        timings=clock.laps | {"train": sum(point["seconds"] for point in state.curves)},  # of all that took part
        resumed=mark["resumed"],
    )
    store.finish(record)


def _trained(
    job: _Job,
    splits: Splits,
    norm: Constants,
    device: torch.device,
    mark: dict[str, Any],
    progress: Told,
    clock: "_Clock",
) -> State:
    """The state after the last epoch.

    Args:
        mark: what each checkpoint holds besides the state; `resumed` is added, how often the run was taken up, and
            `initial`, the weights that it began with.
    """
    spec, runtime, team = job.spec, job.runtime, job.team
    train, val = Watched(splits.train, spec, norm, device, None, team.part, told=progress), None
    if splits.val and _wants_val(spec) and team.first:
        val = Watched(splits.val, spec, norm, device, told=progress)
    image = (splits.channels, splits.image_size)
    model, mark["initial"] = starting_network(spec, splits.classes, image, device, job.store)
    state = State.fresh(spec, model, train.steps(), device)
    if runtime.micro_batch == "auto":
        check_parts(spec, state.model, team)
    mark |= {"resumed": resume(job.store, spec, state, mark) if team.first else 0}
    team.begin(state)
    clock.lap("prepare")
    forward: Any = team.network(state.model)
    forward = torch.compile(forward) if mark["numerics"]["compile"] else forward
    how = How(forward, records(spec, runtime), runtime.micro_batch == "auto", team)
    with stoppable(state):
        for pause in training(spec, state, train, val, runtime.checkpoint_minutes, how):
            if team.first:
                _keep(job.store, spec, pause, mark, job.log)
            heed(spec, state)
    clock.lap("train")
    return state


def scores(predicted: Predicted) -> dict[str, Any]:
    """What a split gave: accuracy in percent, loss, number of images; `predictions.npz` holds what gives them again."""
    logits, labels, batch_size = predicted
    return {
        "accuracy": 100 * int((logits.argmax(1) == labels).sum()) / len(labels),
        "loss": float(F.cross_entropy(logits, labels)),
        "images": len(labels),
        "batch_size": batch_size,
    }


def _input(splits: Splits, norm: Constants) -> dict[str, Any]:
    """What the network takes."""
    return {
        "classes": splits.classes,
        "channels": splits.channels,
        "image_size": splits.image_size,
        "normalise": norm,
        "names": list(splits.train.source.names),
    }


def _save(folder: Path, model: nn.Module, predicted: Predicted) -> str:
    """Write weights and predictions; returns the weights' hash."""
    weights = weights_of(model)
    with replacing(folder / "weights.safetensors", "wb") as file:
        file.write(save(weights))
    predictions_file.write(folder / "predictions.npz", predicted.logits.numpy(), predicted.labels.numpy())
    return weights_digest(weights)


def _wants_val(spec: RunSpec) -> bool:
    return spec.val_fraction > 0 or spec.selection == "best-val"


def _select(spec: RunSpec, state: State) -> dict[str, Any]:
    """Put the selected weights into the model."""
    if spec.selection == "last":
        state.model.load_state_dict(state.tested.state_dict())
        return {"rule": "last", "epoch": state.epoch}
    state.model.load_state_dict(state.best["weights"])
    return {"rule": "best-val", "epoch": state.best["epoch"], "val_accuracy": state.best["accuracy"]}


def _keep(store: Store, spec: RunSpec, pause: Pause, mark: dict[str, Any], log: Log) -> None:
    """Checkpoint first, journal second: the journal can be mended from the checkpoint, not the other way."""
    state = pause.state
    store.checkpoint(spec.id, {**state.to_dict(), **mark})
    if pause.kind == "epoch":
        store.log(spec.id, "epoch", **state.curves[-1])
        log(spec, state.curves[-1])


def _view(store: Store, spec: RunSpec, view: View | None) -> None:
    """Leave word in the run's folder of how MLflow is to show it; an earlier word stays."""
    file = store.folder(spec.id) / View.FILE
    if not file.exists() or view is not None:
        store.write(spec.id, View.FILE, (view or View.of(spec)).to_json())


class _Clock:
    """Wall time per phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Name the time since the last lap."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now
