"""Export every mechanism of the catalogue and run it in each runtime, after a short training on real images.

python benchmarks/deployment.py                  into results/deployment/parity.jsonl, which docs/deployment.md shows
python benchmarks/deployment.py se cbam --write FILE   these mechanisms only, into another file

A line a mechanism, kept as it comes: what the file holds already is not done again.
"""

import argparse
import dataclasses
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attnbench import RunSpec, Runtime, load, run
from attnbench.catalogue.registry import ATTENTION
from attnbench.data.splits import load_splits
from attnbench.deploy.exporting import Forms
from attnbench.deploy.parity import compared
from attnbench.deploy.shipping import Shipped, noise
from attnbench.files import add_line, whole_lines
from attnbench.spec.recipes import preset
from attnbench.store.environment import environment

FILE = Path(__file__).parent.parent / "results" / "deployment" / "parity.jsonl"
TRAINED: dict[str, Any] = {
    **preset("classic", "digits"),  # its steps are small: nothing diverges
    "dataset": "digits",
    "backbone": "speednet",
    "image_size": 16,
    "epochs": 6,
    "train_fraction": 0.5,
    "batch_size": 32,
}
"""The short training: long enough that every mechanism does something, and that INT8 has an accuracy to lose."""


def main() -> None:
    """Go through the mechanisms that the file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attention", nargs="*", default=[entry.name for entry in ATTENTION if entry.builtin])
    parser.add_argument("--write", type=Path, default=FILE, metavar="FILE")
    asked = parser.parse_args()
    asked.write.parent.mkdir(parents=True, exist_ok=True)
    done = {line["attention"] for line in whole_lines(asked.write)}
    for attention in asked.attention:
        if attention not in done:
            found = line_of(attention)
            add_line(asked.write, found)
            print(attention, f"{found['seconds']:.0f} s", found["differences"], found["refused"], flush=True)


def line_of(attention: str) -> dict[str, Any]:
    """Train a mechanism, and compare its network with its exported forms."""
    began, spec = time.perf_counter(), RunSpec(**{**TRAINED, "attention": attention})
    with tempfile.TemporaryDirectory() as home:
        runtime = Runtime(store=home, data_dir=f"{home}/data", threads=1, tracker="none")
        predictor = load(run(spec, runtime))
        forms = Forms(Shipped(predictor), torch.from_numpy(noise(predictor, 2)))
        found = compared(forms, load_splits(spec, runtime.data_dir))
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")
    about = {name: version(name) for name in packages} | {"cpu": environment()["cpu"]}
    seconds = round(time.perf_counter() - began, 1)
    trained = {name: TRAINED[name] for name in ("dataset", "backbone", "image_size", "epochs", "train_fraction")}
    return {
        "attention": attention,
        **dataclasses.asdict(found),
        "trained": trained,
        "date": str(date.today()),
        "seconds": seconds,
        "measured_with": about,
    }


if __name__ == "__main__":
    main()
