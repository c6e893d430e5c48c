"""G1 to G7: what is measured on a CUDA device, a function each; each gives its figures as it finds them.

A figure is a `Row`; what failed inside a function is a `Failed`, and the function goes on.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import site
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from baselines import Step
from gpu_steps import Bench, clock, our_epoch, plain_epoch, textbook_net, timm_epoch
from paired import Paired, Row, spread
from PIL import Image

from attnbench.catalogue.registry import DATASETS
from attnbench.data.batches import Batches
from attnbench.data.cache import there
from attnbench.data.splits import load_splits
from attnbench.spec.run import RunSpec, Runtime
from attnbench.spec.study import Study

NET18 = 'resnet18(stem="cifar")'
SMALL, LARGE = Bench(NET18, 128), Bench(NET18, 512, steps=8)
NET50 = Bench('torchvision(name="resnet50")', 128, side=224, steps=3)
NET20 = Bench("resnet20", 128, steps=40)
WIDE = "speednet(widths=(64, 256, 256))"
COSTS = {"se": 1.05, "eca": 1.05, "cbam": 1.15}
ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "studies"


@dataclass(frozen=True)
class Failed:
    """Something that could not be measured, and why."""

    what: str
    trace: str


def failed(what: str) -> Failed:
    """What could not be measured because of the error that is being handled; of paths only what lies below ours."""
    trace = traceback.format_exc()
    for folder in (ROOT, *map(Path, site.getsitepackages())):
        trace = trace.replace(f"{folder}/", "")
    return Failed(what, trace)


class Said(NamedTuple):
    """Something that was not measured, and why that is no failure."""

    what: str


Found = Row | Failed | Said


def measured(
    things: Mapping[str, Callable[[], Step]], seconds: float, device: str = "cuda"
) -> Iterator[Failed | Said | Paired]:
    """Build and try each thing, then take those that work in turn, as often as the time allows (3 to 11 rounds).

    What is not built when half of the time is over is left out.
    """
    built: dict[str, Step] = {}
    began, once = time.perf_counter(), 0.0
    for name, build in things.items():
        if built and time.perf_counter() - began > seconds / 2:
            yield Said(f"{name} (no time was left)")
            continue
        try:
            step = build()
            step()
            since = clock(device)
            step()
            once += clock(device) - since
            built[name] = step
            print(f"{name}: built by {since - began:.1f} s", flush=True)
        except Exception:
            yield failed(name)
    if built:
        left = seconds - (time.perf_counter() - began)
        rounds = max(3, min(11, int(left / max(once, 1e-9)) - 1))
        yield Paired(built, rounds, lambda: clock(device))


def throughput(goal: str, bench: Bench, name: str, taken: list[float]) -> Row:
    """Images a second."""
    return Row(goal, f"{bench.title}: {name}, images/s", None, True, *spread([bench.images / s for s in taken]), False)


def steps(bench: Bench, seconds: float, compiled: bool = False) -> Iterator[Found]:
    """G1 and G3: our step beside a plain loop's and timm's, and mechanisms beside none, as written or compiled."""
    how = "compiled " if compiled else ""
    things: dict[str, Callable[[], Step]] = {}
    things[f"{how}ours none"] = partial(our_epoch, bench, compiled=compiled)
    things[f"{how}plain none"] = partial(_plain, bench, "none", compiled)
    for attention in COSTS:
        things[f"{how}ours {attention}"] = partial(our_epoch, bench, attention, compiled=compiled)
    for attention in ("se", "cbam"):
        things[f"{how}plain {attention}"] = partial(_plain, bench, attention, compiled)
    if not compiled:
        things["ours none, not recorded"] = partial(our_epoch, bench, recorded=False)
        things["ours none, deterministic"] = partial(our_epoch, bench, deterministic=True)
        things["timm none"] = partial(timm_epoch, bench)
        if importlib.util.find_spec("timm") is None:
            del things["timm none"]
            yield Said(f"{bench.title}: timm's step (timm is not installed)")
    for found in measured(things, seconds, bench.device):
        if isinstance(found, Failed | Said):
            yield found
            continue
        for name, taken in found.seconds.items():
            yield throughput("G1", bench, name, taken)
        for goal, what, wanted, more, one, other in _ratios(bench, how):
            if {one, other} <= set(found.seconds):
                yield Row(goal, what, wanted, more, *found.ratio(one, other))


def _plain(bench: Bench, attention: str, compiled: bool = False) -> Step:
    return plain_epoch(bench, textbook_net(bench, attention), compiled)


def _ratios(bench: Bench, how: str) -> Iterator[tuple[str, str, float | None, bool, str, str]]:
    """Which seconds are divided by which."""
    for attention in ("none", "se", "cbam"):
        what = f"{bench.title}, {how}{attention}: plain loop / ours"
        yield "G1", what, 1.0, True, f"{how}plain {attention}", f"{how}ours {attention}"
    yield "G1", f"{bench.title}: timm's step / ours", 1.0, True, "timm none", "ours none"
    for what in ("not recorded", "deterministic"):
        yield "G1", f"{bench.title}: {what} / ours", None, False, f"ours none, {what}", "ours none"
    for attention, most in COSTS.items():
        what = f"{bench.title}, {how}{attention} / none"
        yield "G3", what, most, False, f"{how}ours {attention}", f"{how}ours none"


def loops(benches: tuple[Bench, ...], seconds: float) -> Iterator[Found]:
    """G2: our loop over a real split, with its data path, beside bare steps on a ready batch."""
    for bench in benches:
        things: dict[str, Callable[[], Step]] = {
            "bare": partial(_plain, bench, "none"),
            "ready": partial(our_epoch, bench),
            "loop": partial(our_epoch, bench, kind=Batches),
            "crop+flip": partial(our_epoch, bench, kind=Batches, augment="crop+flip"),
        }
        for found in measured(things, seconds / len(benches), bench.device):
            if isinstance(found, Failed | Said):
                yield found
                continue
            for name, other in (("loop", "bare"), ("crop+flip", "bare"), ("ready", "bare"), ("crop+flip", "ready")):
                if {name, other} <= set(found.seconds):
                    wanted = 1.03 if other == "bare" and name != "ready" else None
                    what = f"{bench.title}: our {name} / {other} steps"
                    yield Row("G2", what, wanted, False, *found.ratio(name, other))
            yield from (throughput("G2", bench, name, taken) for name, taken in found.seconds.items())


def side_by_side(seconds: float, images: int = 5_000, epochs: int = 4, device: str = "cuda") -> Iterator[Found]:
    """G6: runs an hour of a ResNet-20 study with 1, 4 and 8 runs side by side, each in a process of its own."""
    data = Path(Runtime().data_dir)
    pictures(data / "noise" / "train", images)
    pictures(data / "noise" / "test", 200)
    base = {"dataset": 'imagefolder(path="noise/train", test="noise/test")', "image_size": 32}
    load_splits(RunSpec.of(base), data)  # so that no study decodes them
    base |= {"backbone": "resnet20", "batch_size": 128, "epochs": epochs, "precision": "bf16"}
    for jobs, runs in ((8, 8), (1, 2), (4, 4)):
        what = f"ResNet-20, {images:,} images, {epochs} epochs, {jobs} side by side"
        plan = {"name": "side", "recipe": "standard", "base": base, "grid": {"attention": ["none"]}, "seeds": runs}
        command = [sys.executable, "-m", "attnbench", "study", "side.yaml", f"--jobs={jobs}", f"--per-device={jobs}"]
        command += ["--tracker=none", "--store=runs", f"--data-dir={data}", f"--device={device}"]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "side.yaml").write_text(json.dumps(plan))
            began = time.time()
            try:
                subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=seconds)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as problem:
                said = b"".join(part for part in (problem.stdout, problem.stderr) if part).decode()
                yield Failed(what, f"{said}\n{problem}")
                continue
            yield _once("G6", f"{what}: runs/hour with start and preparation", 3600 * runs / (time.time() - began))
            yield from _parts_of_runs(what, Path(folder) / "runs", began)


def _parts_of_runs(what: str, store: Path, began: float) -> Iterator[Row]:
    """When the first run began, and what each phase of the runs took."""
    journals = [file.read_text().splitlines() for file in store.glob("*/journal.jsonl")]
    waited = min(json.loads(lines[0])["time"] for lines in journals) - began
    yield _once("G6", f"{what}: seconds until the first run begins", waited, more=False)
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


def _once(goal: str, what: str, value: float, wanted: float | None = None, more: bool = True) -> Row:
    """A figure that was taken once."""
    return Row(goal, what, wanted, more, value, value, value, 1, False)


def compiling(benches: tuple[Bench, ...], seconds: float) -> Iterator[Found]:
    """G7: how long torch.compile takes, and after how many steps of training that has paid."""
    for bench in benches:
        try:
            eager = our_epoch(bench)
            eager()
            began = clock(bench.device)
            compiled = our_epoch(bench, compiled=True)
            compiled()
            took = clock(bench.device) - began
        except Exception:
            yield failed(f"{bench.title}: compiling")
            continue
        both = {"eager": partial(_built, eager), "compiled": partial(_built, compiled)}
        for found in measured(both, 6, bench.device):
            if isinstance(found, Failed | Said):
                yield found
                continue
            pairs = zip(found.seconds["eager"], found.seconds["compiled"], strict=True)
            saved = spread([1000 * (one - other) / bench.steps for one, other in pairs])
            yield _once("G7", f"{bench.title}: seconds to compile", took, more=False)
            yield Row("G7", f"{bench.title}: seconds saved per 1,000 steps", None, True, *saved, False)
            yield Row("G7", f"{bench.title}: as written / compiled", None, True, *found.ratio("eager", "compiled"))
            steps = 1000 * took / saved.value if saved.value > 0 else float("inf")
            yield _once("G7", f"{bench.title}: steps until compiling has paid", steps, more=False)


def _built(step: Step) -> Step:
    return step


def to_94(seconds: float) -> Iterator[Found]:
    """G4: seconds to 94 % on CIFAR-10 with speednet; without its images, how many a second it trains on."""
    if there(DATASETS.resolve("CIFAR10"), Runtime().data_dir):
        yield from airbench()
        began = time.perf_counter()
        for backbone, epochs in itertools.product((WIDE, "speednet"), (10, 20, 40)):
            if time.perf_counter() - began > seconds / 2:
                break
            fields = {"dataset": "CIFAR10", "backbone": backbone, "epochs": epochs, "batch_size": 512, "lr": 0.4}
            spec = from_study("fast-cifar10.yaml", **fields, averaging=0.2, deterministic=False)
            yield from trained("G4", spec, 94.0)
    else:
        yield Said("G4: seconds to 94 % on CIFAR-10 (its images are not in DATA)")
    for backbone in ("speednet", WIDE):
        bench = Bench(backbone, 512, steps=40)
        things: dict[str, Callable[[], Step]] = {
            "ready": partial(our_epoch, bench),
            "crop+flip": partial(our_epoch, bench, kind=Batches, augment="crop+flip"),
        }
        for found in measured(things, 5):
            if isinstance(found, Failed | Said):
                yield found
            else:
                yield from (throughput("G4", bench, name, taken) for name, taken in found.seconds.items())


def from_study(file: str, **fields: Any) -> RunSpec:
    """The first run of a study of the repository, on a GPU and with other fields."""
    return RunSpec.of({**Study.load(STUDIES / file).runs()[0].fields, "precision": "bf16", **fields})


def trained(goal: str, spec: RunSpec, wanted: float) -> Iterator[Found]:
    """Train one run to its end: its accuracy, and the seconds of its training if that is reached."""
    from attnbench.training.run import run

    what = f"{spec.dataset}, {spec.backbone}, {spec.epochs} epochs"
    with tempfile.TemporaryDirectory() as folder:
        record = run(spec, Runtime(store=folder, tracker="none", device="cuda"))
    yield _once(goal, f"{what}: accuracy in percent", record.accuracy, wanted)
    yield _once(goal, f"{what}: seconds of training", record.train_seconds, more=False)
    yield _once(goal, f"{what}: seconds of the whole run", sum(record.timings.values()), more=False)


def airbench() -> Iterator[Found]:
    """airbench's own 94 % on the same images, where it is installed."""
    if importlib.util.find_spec("airbench") is None:
        yield Said("G4: airbench (not installed)")
        return
    try:
        airbench: Any = importlib.import_module("airbench")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            _as_airbench_reads(Path("cifar10"))
            airbench.warmup94()
            began = clock()
            model = airbench.train94()
            yield _once("G4", "airbench94: seconds with its tests", clock() - began, more=False)
            accuracy = 100 * airbench.evaluate(model, airbench.CifarLoader("cifar10", train=False), tta_level=2)
            yield _once("G4", "airbench94: accuracy in percent", accuracy, 94.0)
    except Exception:
        yield failed("airbench")


def _as_airbench_reads(folder: Path) -> None:
    """CIFAR-10 from DATA in the two files that airbench keeps once it has downloaded it."""
    splits, classes = load_splits(RunSpec(dataset="CIFAR10"), Runtime().data_dir), [str(number) for number in range(10)]
    folder.mkdir()
    for name, split in (("train", splits.train), ("test", splits.scored)):
        images, labels = split.source.images[split.indices], split.labels
        whole = {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels), "classes": classes}
        torch.save(whole, folder / f"{name}.pt")


def eurosat(seconds: float) -> Iterator[Found]:
    """G5: seconds to 97.6 % on EuroSAT, where its images are."""
    if not there(DATASETS.resolve("EuroSAT"), Runtime().data_dir):
        yield Said("G5: seconds to 97.6 % on EuroSAT (its images are not in DATA)")
        return
    for epochs in (8, 16):
        fields = {"backbone": "speednet(widths=(64, 256, 256), stride=2)", "epochs": epochs, "batch_size": 256}
        yield from trained("G5", from_study("fast-eurosat.yaml", **fields, lr=0.3), 97.6)


PARTS: dict[str, Callable[[float], Iterator[Found]]] = {
    "steps": partial(steps, SMALL),
    "loops": partial(loops, (SMALL, NET20, LARGE)),
    "study": side_by_side,
    "compiling": partial(compiling, (NET20, SMALL)),
    "cifar10": to_94,
    "steps-resnet50": partial(steps, NET50),
    "steps-512": partial(steps, LARGE),
    "compiled": partial(steps, SMALL, compiled=True),
    "eurosat": eurosat,
    "compiled-resnet50": partial(steps, NET50, compiled=True),
    "compiling-resnet50": partial(compiling, (NET50,)),
}
"""Name -> what measures it in so many seconds; gpu.py says in which order, and how many."""


def main() -> None:
    """Measure one part, given its name and its seconds, and write each figure to a file the moment it is found."""
    name, seconds, file = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    with file.open("a") as out:
        try:
            for found in PARTS[name](0.65 * seconds):  # the rest is to start and to be over a little late
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
