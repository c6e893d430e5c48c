"""Flags that verbs share, and those of `run`: every field of RunSpec, with the recipe's and the data set's defaults."""

import argparse
import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import UseAppendAction, arg

from attnbench.errors import AttnbenchError, writing
from attnbench.execution.executors import Execution
from attnbench.spec.recipes import preset
from attnbench.spec.run import RunSpec, Runtime, field_docs

RuntimeFlags = Annotated[Runtime, arg(name="")]
ExecutionFlags = Annotated[Execution, arg(name="")]
StoreFlag = Annotated[str | None, arg(help="Folder of runs (default: runs, or ATTNBENCH_STORE).")]
StoreOrBundleFlag = Annotated[
    str | None, arg(help="Folder of runs, or a bundle of them (default: runs, or ATTNBENCH_STORE).")
]
DataFlag = Annotated[str | None, arg(help="Folder of data sets (default: data, or ATTNBENCH_DATA_DIR).")]
CodeFlag = Annotated[
    UseAppendAction[tuple[str, ...]],
    arg(help="package.module:Object that may be imported because the run names it; again for another one."),
]
"""Code of their own that a stored run names: a record may be somebody else's, and no code is imported on its word."""


def vacant(out: Path) -> Path:
    """The place of a file that is to be written, its folder made.

    Raises:
        AttnbenchError: there is a file, or the folder cannot be made.
    """
    if out.exists():
        raise AttnbenchError(f"{out} is there already; give --out another file")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    return out


ELSEWHERE = {
    "run": {
        **dict.fromkeys(("model", "arch", "net", "network"), "backbone"),
        **dict.fromkeys(("batch", "bs", "batchsize"), "batch-size"),
        **dict.fromkeys(("img-size", "imgsz", "resolution"), "image-size"),
        **dict.fromkeys(("num-epochs", "n-epochs"), "epochs"),
        **dict.fromkeys(("optim", "opt"), "optimizer"),
        **dict.fromkeys(("learning-rate", "base-lr"), "lr"),
        "wd": "weight-decay",
        "module": "attention",
        "gpu": "device",
        "smoothing": "label-smoothing",
    },
    "study": dict.fromkeys(("workers", "num-workers", "parallel"), "jobs"),
}
"""Verb -> flag as other tools call it -> flag as it is called here."""


def check_names(argv: list[str]) -> None:
    """Say how a flag is called here that other tools call otherwise.

    Raises:
        AttnbenchError: there is one.
    """
    for word in argv[1:]:
        name = word.split("=")[0].removeprefix("--").replace("_", "-") if word.startswith("--") else ""
        if ours := ELSEWHERE.get(argv[0], {}).get(name):
            raise AttnbenchError(f"{word.split('=')[0]} is called --{ours} here")


def run_flags(argv: list[str]) -> Any:
    """A dataclass of the flags, for the parser; its defaults depend on the recipe and the data set that are asked for.

    Raises:
        BadReference: an unknown recipe or data set.
    """
    docs, defaults = field_docs(RunSpec), preset(*_asked(argv))
    fields: list[Any] = []
    for name, kind in RunSpec.__annotations__.items():
        about = arg(aliases=["--attention-type"] if name == "attention" else None)
        default = {"default": defaults[name]} if name in defaults else {}
        fields.append((name, Annotated[kind, about], dataclasses.field(**default)))
    return dataclasses.make_dataclass("Flags", fields, kw_only=True, frozen=True, namespace={"DOCS": docs})


def _asked(argv: list[str]) -> tuple[str, str | None]:
    """The recipe and the data set on the command line of `run`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe", default="classic")
    parser.add_argument("--dataset")
    if argv[:1] == ["run"]:
        with contextlib.suppress(argparse.ArgumentError):
            found, _ = parser.parse_known_args(argv)
            return found.recipe, found.dataset
    return "classic", None
