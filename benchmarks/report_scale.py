"""How long `attnbench report` and `store list` take over many runs: made-up records of a real size.

python benchmarks/report_scale.py [--seeds 10] [--arms 20] [--cells 5] [--images 5400] [--write FILE]
python benchmarks/report_scale.py --listed 10000 [--write FILE]
"""

import argparse
import dataclasses
import datetime
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from attnbench import RunSpec
from attnbench.spec.run import canonical
from attnbench.store import predictions
from attnbench.store.runs import RunRecord, Store

CLASSES = 10


def main() -> None:
    """Make the records, time a process of its own, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("cells", 5), ("arms", 20), ("seeds", 10), ("images", 5400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--write", type=Path, help="file of lines that one is added to")
    parser.add_argument("--listed", type=int, help="list so many records instead, which have no predictions")
    asked = parser.parse_args()
    found = listed(asked.listed) if asked.listed else reported(asked)
    print(json.dumps(found))
    if asked.write:
        with asked.write.open("a") as file:
            file.write(json.dumps(found) + "\n")


def reported(asked: argparse.Namespace) -> dict[str, object]:
    """What the report of a store takes, and how large its page is."""
    with tempfile.TemporaryDirectory() as folder:
        runs = made(Store(Path(folder) / "runs"), asked.cells, asked.arms, asked.seeds, asked.images)
        command = [sys.executable, "-m", "attnbench", "report", f"{folder}/runs", "--out", f"{folder}/report"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (Path(folder) / "report" / "index.html").stat().st_size
    return {
        "runs": runs,
        "images": asked.images,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "mebibytes": round(used.ru_maxrss / 1024),
        "page_megabytes": round(size / 1e6, 2),
        "date": str(datetime.date.today()),
    }


def listed(count: int) -> dict[str, object]:
    """What it takes to list records of some 10 KB each."""
    spec = RunSpec(dataset="EuroSAT", attention="se")
    record = dataclasses.replace(_record(spec, 90.0, 5400), environment={"filling": "x" * 8_000})
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for number in range(count):
            again = dataclasses.replace(record, id=f"{number:012x}")
            store.folder(again.id).mkdir()
            store.write(again.id, "record.json", again.to_json())
        command = [sys.executable, "-m", "attnbench", "store", "list", "attention=se", "--store", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = round(used.ru_utime + used.ru_stime, 2)
    return {"records": count, "cpu_seconds": cpu, "date": str(datetime.date.today())}


def made(store: Store, cells: int, arms: int, seeds: int, images: int) -> int:
    """Records and predictions of runs that were never trained; returns how many."""
    names = ["none", *(f"se(reduction={number + 2})" for number in range(arms - 1))]
    specs = [
        RunSpec(dataset="EuroSAT", attention=name, image_size=32 + cell, seed=seed)
        for cell in range(cells)
        for name in names
        for seed in range(seeds)
    ]
    stored(store, specs, images)
    return len(specs)


def stored(store: Store, specs: list[RunSpec], images: int) -> None:
    """A done record and made-up predictions for each spec."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, images)
    for spec in specs:
        logits = rng.normal(size=(images, CLASSES)).astype(np.float32)
        logits[np.arange(images), labels] += 2 + rng.normal(0, 0.1)
        right = logits.argmax(1) == labels
        store.folder(spec.id).mkdir(parents=True)
        predictions.write(store.folder(spec.id) / "predictions.npz", logits, labels)
        store.write(spec.id, "record.json", _record(spec, 100 * float(right.mean()), images).to_json())


def _record(spec: RunSpec, accuracy: float, images: int) -> RunRecord:
    return RunRecord(
        id=spec.id,
        spec=dataclasses.asdict(spec),
        canonical=canonical(spec),
        status="done",
        test={"accuracy": accuracy, "loss": 1.0, "images": images},
        curves=[{"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 40.0 + epoch} for epoch in range(1, 31)],
        cards={"attention": spec.resolved.attention.entry.about()},
        cost={"parameters": 270_000, "macs": 40_000_000},
        timings={"train": 100.0 + spec.seed},
    )


if __name__ == "__main__":
    main()
