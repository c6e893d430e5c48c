"""What the child processes of a study do: prepare, time a step, or train one run. JSON comes in and goes out."""

import _thread
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from attnbench import devices
from attnbench.catalogue.foreign import told
from attnbench.data.batches import training_side
from attnbench.data.cache import there
from attnbench.data.splits import constants, load_splits
from attnbench.errors import AttnbenchError, ForeignError
from attnbench.execution.agreement import insist, kind
from attnbench.networks.network import fresh_network
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.runs import Store
from attnbench.store.view import View
from attnbench.training.numerics import choose_device
from attnbench.training.optim import optimizer
from attnbench.training.run import run
from attnbench.training.starting import starting_network

PROBE_MACS = 20e9
GRACE_SECONDS = 600.0
"""How long a process whose parent has gone may take over a step and a checkpoint."""


def main() -> None:
    """Do the job named on the command line with what the parent sends as one line of JSON."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # deaf to it where a shell put the study behind,
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # and in a worker of Ray
    asked = json.loads(sys.stdin.readline())
    sys.path += [place for place in asked["path"] if place not in sys.path]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    jobs = {"train": _train, "prepare": _prepare, "estimate": _estimate}
    with Path(sys.argv[2]).open("w", encoding="utf-8") as answer:
        try:
            answer.write(json.dumps({"value": jobs[sys.argv[1]](asked)}))
        except AttnbenchError as problem:
            answer.write(json.dumps({"message": str(problem), "trace": problem.trace}))
            sys.exit(getattr(problem, "child_exit_code", problem.exit_code))
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as problem:
            known = told(problem)
            if known is None:
                raise  # a bug of ours
            answer.write(json.dumps({"message": str(known), "trace": known.trace}))
            sys.exit(1)


def _end_with_parent() -> None:
    """Standard input ends when the parent dies: leave a checkpoint and stop, as after Ctrl-C; stop in any case."""
    parent = os.getppid()
    sys.stdin.read()
    if os.name == "nt":  # where the call below would end the process at once
        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGINT)
    while os.getppid() == parent:  # Ctrl-C: whoever waits for a checkpoint can say it again
        time.sleep(1)
    time.sleep(GRACE_SECONDS)  # the process ends meanwhile, unless a step of it never does
    os._exit(130)


def _train(asked: Any) -> None:
    spec, runtime = RunSpec.of(asked["spec"]), Runtime(**asked["runtime"])
    splits = insist(asked["expected"], spec, runtime.data_dir)
    run(spec, runtime, asked["recipe"], View(**asked["view"]), splits=splits)


def _prepare(asked: Any) -> dict[str, object]:
    """Fetch and decode all data, build every network once, and name everything that cannot be.

    Returns the images' fingerprint for each kind of run, and the GPUs that runs may be shared out among.
    """
    problems: dict[str, str] = {}
    images: dict[str, str] = {}
    runtime = Runtime(**asked["runtime"])
    device = choose_device(runtime)
    for text, spec in _distinct(asked["specs"]).items():
        try:
            splits = load_splits(spec, runtime.data_dir)
            constants(spec, splits.train)
            image = (splits.channels, splits.image_size)
            optimizer(spec, starting_network(spec, splits.classes, image, device, Store(runtime.store))[0])
            images[text] = splits.data_fingerprint
        except AttnbenchError as problem:
            problems[str(problem)] = problem.trace
    if problems:
        raise ForeignError("\n".join(problems), "\n".join(dict.fromkeys(filter(None, problems.values()))))
    shared = devices.on_card(device) and device.index is None  # cuda:1 was asked for by its number
    return {"images": images, "devices": devices.visible() if shared else []}


def _estimate(asked: Any) -> list[float | None]:
    """CPU seconds per run, measured on a few steps, in the order of the specs."""
    torch.set_num_threads(Runtime(**asked["runtime"]).thread_count)
    device = choose_device(Runtime())  # where somebody's own mechanism is tried: a plan may be for another machine
    measured: dict[str, float] = {}
    return [_seconds(RunSpec.of(fields), asked["runtime"]["data_dir"], device, measured) for fields in asked["specs"]]


def _seconds(spec: RunSpec, data_dir: str, device: torch.device, measured: dict[str, float]) -> float | None:
    """CPU seconds of a run, by a few training steps at its image size; None if the number of images is unknown.

    Args:
        measured: what an image takes in the networks that were measured already.
    """
    found = images(spec, data_dir)
    if found is None:
        return None
    train, test, image, classes = found
    network = repr([image, classes, spec.batch_size, spec.backbone, spec.attention, spec.resolved.place])
    if network not in measured:
        model: Any = fresh_network(spec, classes, image[0], image[1], device)
        measured[network] = _step_seconds(model.to(memory_format=torch.channels_last), spec.batch_size, *image)
    per_image, size = measured[network], image[1]
    small = round(spec.progressive * spec.epochs)
    epochs = small * (training_side(spec, 0, size) / size) ** 2 + spec.epochs - small
    return per_image * (train * epochs + test * (1 + (spec.tta == "flip")) / 3)


def images(spec: RunSpec, data_dir: str) -> tuple[float, float, tuple[int, int], int] | None:
    """Numbers of training and of scored images, channels and size of an image, classes: of the data, or by the card."""
    card, size = spec.resolved.dataset.card, spec.resolved.image_size
    if there(spec.resolved.dataset, data_dir):
        splits = load_splits(spec, data_dir)
        return len(splits.train), len(splits.scored), (splits.channels, splits.image_size), splits.classes
    if size is None or not card.images:
        return None
    whole = card.images.get("all", 0)
    train, val = card.images.get("train", 0.8 * whole), card.images.get("val", 0)
    test = card.images.get("test", 0.2 * whole) if spec.evaluate == "test" else spec.val_fraction * train or val
    train *= (1 - spec.val_fraction) * spec.train_fraction
    train, test = min(train, spec.train_limit or train), min(test, spec.test_limit or test)
    return train, test, (card.channels, size), card.classes


def _step_seconds(model: torch.nn.Module, batch_size: int, channels: int, size: int) -> float:
    from attnbench.networks.cost import cost

    affordable = int(PROBE_MACS / (3 * cost(model, (channels, size, size))["macs"]))
    batch = max(2, min(batch_size, affordable))
    images = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        F.cross_entropy(model(images), labels).backward()
        seconds.append(time.process_time() - began)
    return min(seconds) / batch


def _distinct(specs: list[dict[str, Any]]) -> dict[str, RunSpec]:
    """One spec for each kind of run."""
    return {text: RunSpec.of(fields) for text, fields in {kind(fields): fields for fields in specs}.items()}


if __name__ == "__main__":
    main()
