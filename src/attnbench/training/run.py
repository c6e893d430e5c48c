"""One run: the method section of the paper, in code."""

import contextlib
import dataclasses
import hashlib
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import nn

from attnbench.catalogue.foreign import told
from attnbench.console import say
from attnbench.data.splits import Splits, constants, load_splits
from attnbench.errors import AttnbenchError, Diverged, StoreProblem
from attnbench.files import replacing
from attnbench.networks.cost import cost
from attnbench.networks.network import built_in, fresh_network
from attnbench.networks.weights import weights_of
from attnbench.spec.run import RunSpec, Runtime, canonical
from attnbench.store import predictions as predictions_file
from attnbench.store.environment import environment
from attnbench.store.mlflow import View, mirrored
from attnbench.store.runs import RunRecord, Store
from attnbench.training.done import finished
from attnbench.training.loop import Pause, Predicted, State, predict, stoppable, training
from attnbench.training.numerics import choose_device, differences, numerics
from attnbench.training.progress import Told, Watched, telling

Log = Callable[[RunSpec, dict[str, float]], None]


def print_epoch(spec: RunSpec, point: dict[str, float]) -> None:
    """One line on the console for a finished epoch."""
    val = f"  val {point['val_accuracy']:.2f} %" if "val_accuracy" in point else ""
    loss, accuracy, seconds = point["train_loss"], point["train_accuracy"], point["seconds"]
    print(
        f"epoch {point['epoch']}/{spec.epochs}  loss {loss:.4f}  train {accuracy:.2f} %{val}  {seconds:.1f} s",
        flush=True,
    )


def run(
    spec: RunSpec,
    runtime: Runtime | None = None,
    recipe: str = "",
    view: View | None = None,
    log: Log | None = None,
) -> RunRecord:
    """Train, score once at the end, and store the record; an interrupted run carries on, a done one is not repeated,
    unless the images in the data folder are others by now.

    Args:
        recipe: the recipe's name, kept as a label.
        view: how MLflow shows the run; None for its fields as params.
        log: what is done with each epoch's point of the curves; None prints it, unless the tracker is `none`, which
            also leaves out how far an epoch or the test is.

    Raises:
        Diverged: the loss was not finite; the run is marked failed.
        AttnbenchError: anything else that the user can mend.
    """
    runtime = runtime or Runtime()
    store = Store(runtime.store)
    shown = log or (print_epoch if runtime.tracker != "none" else None)
    with store.lock(spec.id):
        if found := finished(spec, store, runtime.data_dir):
            _view(store, spec, view)
            return found
        mirror = mirrored(store, [spec.id], enabled=runtime.tracker == "mlflow")
        with mirror, _marked(store, spec, recipe), telling(shown is not None) as progress:
            store.begin(spec.id)
            _view(store, spec, view)
            return _train_and_test(spec, runtime, store, recipe, shown or _silent, progress)


def _silent(_spec: RunSpec, _point: dict[str, float]) -> None:
    """Say nothing of an epoch."""


def _train_and_test(spec: RunSpec, runtime: Runtime, store: Store, recipe: str, log: Log, progress: Told) -> RunRecord:
    clock, device = _Clock(), choose_device(runtime)
    splits = load_splits(spec, runtime.data_dir)
    with numerics(spec, runtime, device) as bits:
        norm = constants(spec, splits.train)
        train, scored = (Watched(split, spec, norm, device, told=progress) for split in (splits.train, splits.scored))
        val = Watched(splits.val, spec, norm, device, told=progress) if splits.val and _wants_val(spec) else None
        model = fresh_network(spec, splits.classes, splits.channels, splits.image_size, device)
        state = State.fresh(spec, model, train.steps(), device)
        mark: dict[str, Any] = {"numerics": bits, "images": splits.split_fingerprint}
        mark |= {"resumed": _resume(store, spec, state, mark)}
        clock.lap("prepare")
        compiled: Any = torch.compile(state.model) if runtime.compile else None
        with stoppable(state):
            for pause in training(spec, state, train, val, runtime.checkpoint_minutes, compiled):
                _keep(store, spec, pause, mark, log)
        clock.lap("train")
        selected = _select(spec, state)
        store.log(spec.id, spec.evaluate, reading="final evaluation", images=len(splits.scored))
        predicted = predict(state.model, scored)
        clock.lap("test")
    record = dataclasses.replace(
        _unfinished(spec, recipe),
        status="done",
        test=scores(predicted) if spec.evaluate == "test" else {},
        val=scores(predicted) if spec.evaluate == "val" else {},
        selected=selected,
        curves=state.curves,
        input=_input(splits, norm) | {"built_in": built_in(state.model)},
        weights_sha256=_save(store.folder(spec.id), state.model, predicted),
        data_fingerprint=splits.data_fingerprint,
        split_fingerprint=splits.split_fingerprint,
        numerics=bits,
        cost=cost(state.model, (splits.channels, splits.image_size, splits.image_size)),
        timings=clock.laps | {"train": sum(point["seconds"] for point in state.curves)},  # of all that took part
        resumed=mark["resumed"],
    )
    store.log(spec.id, "done", **{record.metric: record.score})
    store.save(record)
    return store.find(spec.id)


def scores(predicted: Predicted) -> dict[str, Any]:
    """What a split gave: accuracy in percent, loss, number of images; `predictions.npz` holds what gives them again."""
    logits, labels, batch_size = predicted
    return {
        "accuracy": 100 * int((logits.argmax(1) == labels).sum()) / len(labels),
        "loss": float(F.cross_entropy(logits, labels)),
        "images": len(labels),
        "batch_size": batch_size,
    }


def _input(splits: Splits, norm: tuple[tuple[float, ...], tuple[float, ...]]) -> dict[str, Any]:
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


def _unfinished(spec: RunSpec, recipe: str) -> RunRecord:
    """What is known of a run before it is trained."""
    return RunRecord(
        id=spec.id,
        spec=spec.fields,
        canonical=canonical(spec),
        status="failed",
        recipe=recipe,
        environment=environment(),
        cards=spec.resolved.cards(),
    )


def weights_digest(weights: dict[str, torch.Tensor]) -> str:
    """Hash of names and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + b"\0" + weights[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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
    """Checkpoint first, journal second: the journal can be mended from the checkpoint, not the other way.

    Raises:
        KeyboardInterrupt: somebody asked training to stop; the same run goes on from here.
    """
    state = pause.state
    store.checkpoint(spec.id, {**state.to_dict(), **mark})
    if pause.kind == "epoch":
        store.log(spec.id, "epoch", **state.curves[-1])
        log(spec, state.curves[-1])
    if state.stop and state.epoch < spec.epochs:
        raise KeyboardInterrupt(f"stopped at epoch {state.epoch + 1}, step {state.step}")


def _resume(store: Store, spec: RunSpec, state: State, mark: dict[str, Any]) -> int:
    """Take up the newest checkpoint, if there is one; returns how often that has been done with this run."""
    saved, numerics = store.latest(spec.id), mark["numerics"]
    if saved is not None and saved.get("images", mark["images"]) != mark["images"]:
        say(f"run {spec.id} was begun on other images than are there now: it starts anew")
        store.drop_checkpoints(spec.id)
        saved = None
    if saved is None:
        store.mend_journal(spec.id, [])
        store.log(spec.id, "start", spec=spec.fields, numerics=numerics)
        return 0
    if saved["numerics"] != numerics:
        was = differences(saved["numerics"], numerics)
        raise StoreProblem(
            f"run {spec.id} was begun with {was}; go on with the same, or delete {store.folder(spec.id)}/ to start anew"
        )
    try:
        state.restore(saved)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as problem:
        folder = store.folder(spec.id)
        raise StoreProblem(
            f"{folder}/ has a checkpoint of another network ({problem}); delete it to start anew"
        ) from None
    resumed: int = saved["resumed"] + 1
    store.mend_journal(spec.id, state.curves)
    store.log(spec.id, "resume", epoch=state.epoch, step=state.step)
    return resumed


def _view(store: Store, spec: RunSpec, view: View | None) -> None:
    """Leave word in the run's folder of how MLflow is to show it; an earlier word stays."""
    file = store.folder(spec.id) / View.FILE
    if not file.exists() or view is not None:
        store.write(spec.id, View.FILE, (view or View.of(spec)).to_json())


@contextlib.contextmanager
def _marked(store: Store, spec: RunSpec, recipe: str) -> Iterator[None]:
    """Write a record of the failure, unless nothing can be written any more."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as problem:
        if isinstance(problem, AttnbenchError | KeyboardInterrupt | ImportError) and not isinstance(problem, Diverged):
            raise  # nothing that the run did: an installation that breaks under it neither
        reason = str(problem) if isinstance(problem, Diverged) else f"{type(problem).__name__}: {problem}"
        problem.add_note(f"run {spec.id} ({spec.dataset} {spec.backbone} {spec.attention} seed {spec.seed})")
        record = dataclasses.replace(_unfinished(spec, recipe), error=reason)
        with contextlib.suppress(OSError):
            store.log(spec.id, "failed", error=reason, traceback=traceback.format_exc())
            store.save(record)
        if isinstance(problem, OSError) and told(problem) is None:
            raise StoreProblem(f"run {spec.id} in {store.path}/ stopped: {problem.strerror or problem}") from problem
        raise


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
