"""Try recipes on a validation split; the test images are never opened.

    python benchmarks/search.py --dataset EuroSAT --out results/search/eurosat.jsonl epochs=8 lr=0.2 "backbone=speednet"

Each call trains one run of the `fast` recipe with the fields that are given, validates it, and adds a line to the file.
"""

import argparse
import ast
import dataclasses
import json
import time
from pathlib import Path

import torch

from attnbench.data.batches import Batches
from attnbench.data.splits import constants, load_splits
from attnbench.errors import Diverged
from attnbench.networks.network import network_of
from attnbench.spec.recipes import preset
from attnbench.spec.run import RunSpec
from attnbench.training.loop import predict, training
from attnbench.training.state import State


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("fields", nargs="*", metavar="FIELD=VALUE")
    asked = parser.parse_args()
    given = dict(field.split("=", 1) for field in asked.fields)
    fields = {"dataset": asked.dataset, **{name: _value(text) for name, text in given.items()}}
    spec = RunSpec(**{**preset("fast", asked.dataset), "val_fraction": 0.1, **fields})
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with asked.out.open("a") as file:
        file.write(json.dumps({"given": given, **validated(spec, asked.data_dir)}) + "\n")


def validated(spec: RunSpec, data_dir: Path) -> dict[str, object]:
    """Accuracy on validation, what the training loop took, and the spec."""
    torch.set_num_threads(1)
    splits = load_splits(spec, data_dir)
    norm, device = constants(spec, splits.train), torch.device("cpu")
    train, val = (Batches(split, spec, norm, device) for split in (splits.train, splits.val) if split is not None)
    model = network_of(spec, splits.classes, splits.channels, splits.image_size)
    state = State.fresh(spec, model, train.steps(), device)
    began = time.process_time()
    found: dict[str, object] = {}
    try:
        for _ in training(spec, state, train, None, 1e9):
            pass
        found["cpu_seconds"] = round(time.process_time() - began, 1)
        logits, labels, _ = predict(state.tested, val)
        found["accuracy"] = round(100 * float((logits.argmax(1) == labels).double().mean()), 2)
        found["train_accuracy"] = round(state.curves[-1]["train_accuracy"], 2)
    except Diverged as problem:
        found["diverged"] = str(problem)
    return {**found, "parameters": sum(p.numel() for p in model.parameters()), "spec": dataclasses.asdict(spec)}


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    main()
