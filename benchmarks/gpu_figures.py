"""G4, G5 and G6, whole runs on a CUDA device; and the parts of what is measured there, one of which is run by its name.

A figure is a `Row`; what failed inside a function is a `Failed`, what was left out a `Said`, and the function goes on.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_steps import Bench, clock, our_epoch
from gpu_throughput import (
    LARGE,
    NET20,
    NET50,
    ROOT,
    SMALL,
    Build,
    Failed,
    Found,
    Said,
    compared,
    compiled,
    failed,
    in_turn,
    loop,
    once,
    steps,
    throughput,
)
from paired import Row, spread
from PIL import Image

from attnbench.catalogue.registry import DATASETS
from attnbench.data.batches import Batches
from attnbench.data.cache import there
from attnbench.data.splits import load_splits
from attnbench.spec.run import RunSpec, Runtime
from attnbench.spec.study import Study

STUDIES = ROOT / "studies"
WIDE = "speednet(widths=(64, 256, 256))"
FAST = (Bench("speednet", 512, steps=40), Bench(WIDE, 512, steps=40))
"""What is trained on noise for G4."""
TO_94 = ((WIDE, 20), (WIDE, 40), ("speednet", 20), (WIDE, 10), ("speednet", 40))
"""Networks and epochs that may reach 94 % on CIFAR-10, the most promising first."""
TO_976 = (("speednet(widths=(64, 256, 256), stride=2)", 8), ("speednet(widths=(64, 256, 256), stride=2)", 16))
"""Networks and epochs that may reach 97.6 % on EuroSAT."""
WARM: dict[str, Any] = {"epochs": 3, "train_limit": 10_000}
"""Of a run that is not counted and bears the start of the process."""
LATE = 2
"""Seconds of a part's time that are kept for its end."""


def side_by_side(
    seconds: float,
    images: int = 5_000,
    epochs: int = 4,
    device: str = "cuda",
    plans: Sequence[tuple[int, int]] = ((8, 8), (1, 1), (4, 4)),
) -> Iterator[Found]:
    """G6: runs an hour of a ResNet-20 study with 8, 1 and 4 runs side by side, each in a process of its own.

    Args:
        device: on a `cpu` runs do not share a device, and `--per-device` is left out.
        plans: how many runs are side by side, and how many there are.
    """
    late, quickest = time.perf_counter() + seconds, 0.0
    data = Path(Runtime().data_dir)
    pictures(data / "noise" / "train", images)
    pictures(data / "noise" / "test", 200)
    base = {"dataset": 'imagefolder(path="noise/train", test="noise/test")', "image_size": 32}
    load_splits(RunSpec.of(base), data)  # so that no study decodes them
    base |= {"backbone": "resnet20", "batch_size": 128, "epochs": epochs, "precision": "bf16"}
    for jobs, runs in plans:
        began = time.perf_counter()
        what = f"ResNet-20, {images:,} images, {epochs} epochs, {jobs} side by side"
        if late - began <= quickest:
            yield Said(f"{what} (no time was left)")
            continue
        plan = {"name": "side", "recipe": "standard", "base": base, "grid": {"attention": ["none"]}, "seeds": runs}
        yield from _study(what, plan, jobs, device, late - began)
        took = time.perf_counter() - began
        quickest = min(quickest or took, took)


def _study(what: str, plan: dict[str, Any], jobs: int, device: str, seconds: float) -> Iterator[Found]:
    """Run a study by the command line, and say how many runs an hour that makes and what they spent their time on."""
    command = [sys.executable, "-m", "attnbench", "study", "side.yaml", f"--jobs={jobs}", f"--device={device}"]
    command += ["--tracker=none", "--store=runs", f"--data-dir={Path(Runtime().data_dir).resolve()}"]
    command += [] if device == "cpu" else [f"--per-device={jobs}"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        (Path(folder) / "side.yaml").write_text(json.dumps(plan))
        began = time.time()
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=seconds)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as problem:
            said = b"".join(part for part in (problem.stdout, problem.stderr) if part).decode()
            yield Failed(what, f"{said}\n{problem}")
            return
        hourly = 3600 * plan["seeds"] / (time.time() - began)
        yield once("G6", f"{what}: runs/hour with start and preparation", hourly)
        yield from _parts_of_runs(what, Path(folder) / "runs", began)


def _parts_of_runs(what: str, store: Path, began: float) -> Iterator[Row]:
    """When the first run began, and what each phase of the runs took."""
    journals = [file.read_text().splitlines() for file in store.glob("*/journal.jsonl")]
    waited = min(json.loads(lines[0])["time"] for lines in journals) - began
    yield once("G6", f"{what}: seconds until the first run begins", waited, more=False)
    timings = [json.loads(file.read_text())["timings"] for file in store.glob("*/record.json")]
    for lap in ("prepare", "train", "test"):
        yield Row("G6", f"{what}: seconds to {lap}", None, False, *spread([each[lap] for each in timings]), False)


def pictures(folder: Path, count: int) -> None:
    """Write PNG files of noise, 32 px a side, in ten class folders."""
    draws = np.random.default_rng(count)
    for number in range(count):
        place = folder / str(number % 10) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (32, 32, 3), np.uint8)).save(place)


def to_94(seconds: float, device: str = "cuda") -> Iterator[Found]:
    """G4: seconds to 94 % on CIFAR-10 with speednet, beside airbench; and how many images a second it trains on."""
    late = time.perf_counter() + seconds
    if there(DATASETS.resolve("CIFAR10"), Runtime().data_dir):
        theirs = yield from airbench(device)
        fields = {"dataset": "CIFAR10", "batch_size": 512, "lr": 0.4, "averaging": 0.2, "deterministic": False}
        specs = [from_study("fast-cifar10.yaml", **fields, backbone=net, epochs=epochs) for net, epochs in TO_94]
        ours = yield from race("G4", specs, 94.0, late - time.perf_counter(), device)
        if ours and theirs:
            yield once("G4", "CIFAR10: ours to 94 % / airbench94, seconds", ours / theirs, 1.5, more=False)
    else:
        yield Said("G4: seconds to 94 % on CIFAR-10 (its images are not in DATA)")
    yield from in_turn([(partial(on_noise, bench), 1) for bench in FAST], min(10, late - time.perf_counter()))


def on_noise(bench: Bench, seconds: float) -> Iterator[Found]:
    """G4: images a second that are trained on, from a ready batch and from a split."""
    things: dict[str, Build] = {
        "ready": partial(our_epoch, bench),
        "crop+flip": partial(our_epoch, bench, kind=Batches, augment="crop+flip"),
    }
    yield from compared(things, seconds, bench, partial(throughput, "G4", bench))


def from_study(file: str, **fields: Any) -> RunSpec:
    """The first run of a study of the repository, on a GPU and with other fields."""
    return RunSpec.of({**Study.load(STUDIES / file).runs()[0].fields, "precision": "bf16", **fields})


def race(
    goal: str, specs: Sequence[RunSpec], wanted: float, seconds: float, device: str
) -> Generator[Found, None, float | None]:
    """Train runs one after the other while there is time, once the first has been trained a little, uncounted.

    Returns:
        The least seconds of training in which one came to the wanted accuracy in percent; None if none did.
    """
    late, best, pace = time.perf_counter() + seconds, None, 0.0
    if seconds > 0:
        yield from _tried(dataclasses.replace(specs[0], **WARM), device, [])
    for spec in specs:
        began = time.perf_counter()
        if began + pace * spec.epochs >= late:
            yield Said(f"{goal}: {_title(spec)} (no time was left)")
            continue
        records: list[Any] = []
        yield from _tried(spec, device, records)
        pace = (time.perf_counter() - began) / spec.epochs
        for record in records:
            yield from _of_run(goal, spec, record, wanted)
            if record.accuracy >= wanted:
                best = min(best or record.train_seconds, record.train_seconds)
    what = f"{specs[0].dataset}: seconds to {wanted:g} %"
    yield Said(f"{goal}: {what} (no run of ours reached it)") if best is None else once(goal, what, best, more=False)
    return best


def _title(spec: RunSpec) -> str:
    return f"{spec.dataset}, {spec.backbone}, {spec.epochs} epochs"


def _tried(spec: RunSpec, device: str, records: list[Any]) -> Iterator[Failed]:
    """Train one run to its end, and put its record into a list."""
    from attnbench.training.run import run

    try:
        with tempfile.TemporaryDirectory() as folder:
            records.append(run(spec, Runtime(store=folder, tracker="none", device=device)))
    except Exception:
        yield failed(_title(spec))


def _of_run(goal: str, spec: RunSpec, record: Any, wanted: float) -> Iterator[Row]:
    yield once(goal, f"{_title(spec)}: accuracy in percent", record.accuracy, wanted)
    yield once(goal, f"{_title(spec)}: seconds of training", record.train_seconds, more=False)
    yield once(goal, f"{_title(spec)}: seconds of the whole run", sum(record.timings.values()), more=False)


def airbench(device: str = "cuda") -> Generator[Found, None, float | None]:
    """airbench's own 94 % on the same images, where it is installed, after its own warm-up.

    Returns:
        The seconds of its training, whether or not this one came to 94 %: half of its runs end a little below.
    """
    if importlib.util.find_spec("airbench") is None:
        yield Said("G4: airbench (not installed)")
        return None
    took, found = None, list[Found]()
    try:
        airbench: Any = importlib.import_module("airbench")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            _as_airbench_reads(Path("cifar10"))
            airbench.warmup94()
            began = clock(device)
            model = airbench.train94(verbose=False)  # without its test after every epoch
            took = clock(device) - began
            found.append(once("G4", "airbench94: seconds of training", took, more=False))
            accuracy = 100 * airbench.evaluate(model, airbench.CifarLoader("cifar10", train=False), tta_level=2)
            found.append(once("G4", "airbench94: accuracy in percent", accuracy, 94.0))
    except Exception:
        found.append(failed("airbench"))
    yield from found
    return took


def _as_airbench_reads(folder: Path) -> None:
    """CIFAR-10 from DATA in the two files that airbench keeps once it has downloaded it."""
    splits, classes = load_splits(RunSpec(dataset="CIFAR10"), Runtime().data_dir), [str(number) for number in range(10)]
    folder.mkdir()
    for name, split in (("train", splits.train), ("test", splits.scored)):
        images, labels = split.source.images[split.indices], split.labels
        whole = {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels), "classes": classes}
        torch.save(whole, folder / f"{name}.pt")


def eurosat(seconds: float, device: str = "cuda") -> Iterator[Found]:
    """G5: seconds to 97.6 % on EuroSAT, where its images are."""
    if not there(DATASETS.resolve("EuroSAT"), Runtime().data_dir):
        yield Said("G5: seconds to 97.6 % on EuroSAT (its images are not in DATA)")
        return
    fields = {"batch_size": 256, "lr": 0.3}
    specs = [from_study("fast-eurosat.yaml", **fields, backbone=net, epochs=epochs) for net, epochs in TO_976]
    yield from race("G5", specs, 97.6, seconds, device)


PARTS: dict[str, Callable[[float], Iterator[Found]]] = {
    "steps": partial(in_turn, ((partial(steps, SMALL), 3), (partial(steps, LARGE, attentions=()), 1))),
    "loops": partial(in_turn, ((partial(loop, SMALL), 3), (partial(loop, NET20), 2))),
    "study": side_by_side,
    "compiled": partial(compiled, SMALL),
    "cifar10": to_94,
    "steps-resnet50": partial(steps, NET50),
    "eurosat": eurosat,
    "loops-512": partial(loop, LARGE),
    "compiled-resnet20": partial(compiled, NET20),
    "compiled-resnet50": partial(compiled, NET50),
}
"""Name -> what measures it in so many seconds; gpu.py says in which order, and how many."""


def main() -> None:
    """Measure one part, given its name and the moment of its end, and write each figure to a file when it is found."""
    name, end, file = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    with file.open("a") as out:
        try:
            for found in PARTS[name](end - time.time() - LATE):
                print(json.dumps(as_json(name, found)), file=out, flush=True)
        except Exception:
            print(json.dumps(as_json(name, failed(name))), file=out, flush=True)
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_reserved() / 2**30
            print(json.dumps({"part": name, "kind": "peak", "what": f"{peak:.1f} GiB reserved at most"}), file=out)


def as_json(part: str, found: Found) -> dict[str, Any]:
    """One line of the file."""
    kind = type(found).__name__.lower()
    values = found._asdict() if isinstance(found, Said) else vars(found)
    outcome = {"outcome": found.outcome} if isinstance(found, Row) else {}
    return {"part": part, "kind": kind, **values, **outcome}


if __name__ == "__main__":
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    main()
