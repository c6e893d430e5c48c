"""How long `attnbench report` takes over many runs, and how large its page is: made-up records of a real size.

python benchmarks/report_scale.py [--seeds 10] [--arms 20] [--cells 5] [--images 5400]
"""

import argparse
import dataclasses
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
    """Make the records, time the report in a process of its own, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("cells", 5), ("arms", 20), ("seeds", 10), ("images", 5400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = made(Store(Path(folder) / "runs"), asked.cells, asked.arms, asked.seeds, asked.images)
        command = [sys.executable, "-m", "attnbench", "report", f"{folder}/runs", "--out", f"{folder}/report"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (Path(folder) / "report" / "index.html").stat().st_size
    print(
        f"{runs} runs of {asked.images:,} test images in {asked.cells} cells: {seconds:.1f} s, "
        f"{used.ru_utime + used.ru_stime:.1f} CPU-s, {used.ru_maxrss / 1024:.0f} MiB, page {size / 1e6:.2f} MB"
    )


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
    card = spec.resolved.attention.card
    return RunRecord(
        id=spec.id,
        spec=dataclasses.asdict(spec),
        canonical=canonical(spec),
        status="done",
        test={"accuracy": accuracy, "loss": 1.0, "images": images},
        curves=[{"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 40.0 + epoch} for epoch in range(1, 31)],
        cards={"attention": dataclasses.asdict(card)},
        cost={"parameters": 270_000, "macs": 40_000_000},
        timings={"train": 100.0 + spec.seed},
    )


if __name__ == "__main__":
    main()
