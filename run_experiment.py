"""The classic command: one run of the ResNet-18 with 3x3 stem, with none, SE or CBAM, shown in MLflow.

python run_experiment.py --dataset CIFAR100 --attention_type se --epochs 30
mlflow ui
"""

import argparse
import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from attnbench.catalogue.registry import ATTENTION, DATASETS
from attnbench.errors import AttnbenchError, StoreProblem
from attnbench.files import replacing
from attnbench.spec.run import RunSpec, Runtime

CIFAR = "0.4914 0.4822 0.4465 / 0.2023 0.1994 0.2010"
RECIPES: dict[str, tuple[int, str]] = {
    "CIFAR10": (32, CIFAR),
    "CIFAR100": (32, CIFAR),
    "Oxford102Flowers": (224, "0.485 0.456 0.406 / 0.229 0.224 0.225"),
    "EuroSAT": (224, "0.3444 0.3803 0.4078 / 0.2034 0.1367 0.1148"),
}
CLASSIC = {"se": 'se(variant="classic")', "cbam": 'cbam(variant="classic")'}
METRICS = ("train_loss", "train_accuracy")
PARAMS = ("dataset", "attention_type", "epochs", "batch_size", "lr", "weight_decay", "experiment_name")


def main(argv: list[str] | None = None) -> None:
    """Train, print what the classic command printed, and save its weights where it saved them."""
    asked = parser().parse_args(argv)
    try:
        experiment(asked)
    except AttnbenchError as problem:
        for line in str(problem).splitlines():
            print(f"run_experiment.py: {line}", file=sys.stderr)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        print("run_experiment.py: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def parser() -> argparse.ArgumentParser:
    """The classic flags, and a few more."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Any = flags.add_argument
    add(
        "--dataset",
        required=True,
        type=_dataset,
        help="CIFAR10, CIFAR100, Oxford102Flowers, EuroSAT and more, in any case",
    )
    add(
        "--attention_type",
        default="none",
        help="none, se, cbam, or any other mechanism (attnbench list attention)",
    )
    add("--epochs", type=int, default=25)
    add("--batch_size", type=int, default=32)
    add("--lr", type=float, default=1e-3)
    add("--weight_decay", type=float, default=1e-4)
    add("--experiment_name", default="Visual Attention Benchmark")
    add("--seed", type=int, default=0, help="repetition number")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--numerics", choices=["native", "portable"], help="portable: the same bits on every CPU with AVX2; slower")
    add("--data_dir", default=os.environ.get("ATTNBENCH_DATA_DIR", "./data"))
    add("--image_size", type=int, help="another side than the classic 32 (CIFAR) or 224 pixels")
    add("--train_limit", type=int, help="at most so many training images (another run)")
    add("--test_limit", type=int, help="at most so many test images (another run)")
    return flags


def experiment(asked: argparse.Namespace) -> None:
    """Do the run and leave its traces: the console's lines, the .pth file, the MLflow run."""
    from attnbench.store.mlflow import mirrored
    from attnbench.store.runs import Store
    from attnbench.store.view import View
    from attnbench.training.run import run

    spec = classic_spec(asked)
    runtime = Runtime(device=asked.device, threads=0, data_dir=asked.data_dir, tracker="none", numerics=asked.numerics)
    store = Store(runtime.store)
    weights = weights_file(asked.dataset, asked.attention_type)
    params = {name: str(getattr(asked, name)) for name in PARAMS}
    view = View(
        asked.experiment_name,
        params,
        tags={"mlflow.source.name": "run_experiment.py"},
        artifacts=[str(weights.resolve())],
        metrics=list(METRICS),
    )
    if (done := store.record(spec.id)) is not None and done.done:
        print(f"This run is done ({store.folder(spec.id)}/); another --seed repeats the experiment.")
        for point in done.curves:
            print_epoch(spec, point)
    with mirrored(store, [spec.id]):
        record = run(spec, runtime, "classic", view, print_epoch)
        save_classic(store.folder(spec.id) / "weights.safetensors", weights)
    print(f"FINAL TEST ACCURACY: {record.accuracy:.2f}%")


def weights_file(dataset: str, attention: str) -> Path:
    """Where the weights go, with what no file name can hold replaced; its folder is made before anything is trained.

    Raises:
        StoreProblem: the folder cannot be written.
    """
    file = Path("saved_models") / (re.sub(r'[/\\:*?"<>|\s]+', "-", f"{dataset}_{attention}")[:200] + "_model.pth")
    try:
        file.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            return file
    except OSError as problem:
        raise StoreProblem(f"{file.parent}/ cannot be written: {problem.strerror or problem}") from None


def save_classic(source: Path, target: Path) -> None:
    """Write a run's weights as a state dict with the classic class's key names."""
    import torch
    from safetensors.torch import load_file

    with replacing(target, "wb") as file:
        torch.save({classic_key(name): value for name, value in load_file(source).items()}, file)


def classic_key(name: str) -> str:
    """The classic class's name for a weight of our network: `layer1.0.bn2.1.fc...` was `layer1.0.attention.fc...`."""
    for ours, classic in ((".bn2.0.", ".bn2."), (".bn2.1.", ".attention."), (".downsample.", ".shortcut.")):
        name = name.replace(ours, classic)
    return name.replace("fc.", "linear.", 1) if name.startswith("fc.") else name


def classic_spec(asked: argparse.Namespace) -> RunSpec:
    """The classic recipe with the user's flags; image size and constants count as the user's own."""
    size, normalise = RECIPES.get(asked.dataset, (None, "train"))
    attention = CLASSIC.get(asked.attention_type.lower(), asked.attention_type)
    ATTENTION.resolve(attention)
    return RunSpec(
        dataset=asked.dataset,
        attention=attention,
        epochs=asked.epochs,
        batch_size=asked.batch_size,
        lr=asked.lr,
        weight_decay=asked.weight_decay,
        image_size=size if asked.image_size is None else asked.image_size,
        normalise=normalise,
        train_limit=asked.train_limit,
        test_limit=asked.test_limit,
        seed=asked.seed,
    )


def print_epoch(spec: RunSpec, point: dict[str, float]) -> None:
    """The classic line of an epoch."""
    loss, accuracy = point["train_loss"], point["train_accuracy"]
    print(
        f"Epoch {point['epoch']}/{spec.epochs} -> Train Loss: {loss:.4f}, Train Acc: {accuracy:.2f}%",
        flush=True,
    )


def _dataset(name: str) -> str:
    """The registry's spelling of a data set's name."""
    with contextlib.suppress(AttnbenchError):
        return DATASETS.canonical(name)
    known = ", ".join(entry.name for entry in DATASETS)
    raise argparse.ArgumentTypeError(f"no dataset is called {name!r}; known are {known}")


if __name__ == "__main__":
    main()
