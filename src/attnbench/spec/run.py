"""A run as a value: `RunSpec` decides the numbers and names the run, `Runtime` only says how it is executed."""

import ast
import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from attnbench.catalogue.places import Place
from attnbench.errors import BadSpec
from attnbench.spec import finetuning
from attnbench.spec.resolved import Constants, Resolved, examined
from attnbench.spec.validation import violations

Source = Literal["init", "order", "augment", "noise", "split"]
"""A source of chance: initial weights, order of images, augmentation, dropout and the like, which images are where."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run. Equal specs under equal numerics give equal bits.

    The defaults are the classic recipe. A wrong value raises BadSpec, which names every mistake at once.
    """

    dataset: str
    """Data set: a name, imagefolder(path="..."), or package.module:function."""
    attention: str = "none"
    """Mechanism: a name, name(option=1), or package.module:Class."""
    backbone: str = 'resnet18(stem="cifar")'
    """Network that the mechanism is put into: a name, or package.module:function of numbers of classes and channels."""
    site: str | None = None
    """Where it goes: block, pre, post, identity, conv, stage, paper, se (built-in SE), pattern:REGEX; None: its own."""
    stages: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] | None = None
    """Only in these stages of the backbone, counted from 1; None for all."""
    every: Annotated[int, Ge(1)] | None = None
    """Only in every n-th place of a stage; None for all (or as the paper has it, with site paper)."""
    init: Literal["own", "identity"] = "own"
    """The mechanism starts as its paper says, or as doing nothing, which spares pretrained networks."""
    epochs: Annotated[int, Ge(1)] = 25
    """Passes over the training images."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Images per step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with Nesterov momentum."""
    lr: Annotated[float, Gt(0), Lt(float("inf"))] = 1e-3
    """Peak learning rate."""
    weight_decay: Annotated[float, Ge(0), Lt(float("inf"))] = 1e-4
    """Weight decay of every parameter that its card does not exempt."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Momentum of SGD; without effect on AdamW."""
    schedule: Literal["cosine-epoch", "cosine", "onecycle", "constant"] = "cosine-epoch"
    """Learning rate over time: cosine by epoch, cosine by step, one cycle by step, or constant."""
    warmup: Annotated[float, Ge(0), Lt(float("inf"))] = 0.0
    """Epochs of linear warm-up; for onecycle the length of its rise (0: three tenths)."""
    augment: str = "none"
    """Augmentation: none, or some of crop, flip, dihedral (turns and flips), cutout joined by +."""
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of each label spread over all classes."""
    averaging: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the steps, the last ones, whose weights are averaged for the test; 0 tests the last weights alone."""
    progressive: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the epochs, the first ones, trained on images of three quarters of the size."""
    tta: Literal["none", "flip"] = "none"
    """Logits of an image alone, or averaged with those of its mirror image."""
    image_size: Annotated[int, Ge(4), Le(2048)] | None = None
    """Side of the images in pixels; None for the data set's own."""
    normalise: str = "train"
    """Normalising constants: train (measured on the training images), or "MEAN ... / STD ..." per channel."""
    val_fraction: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the training images set apart for validation."""
    selection: Literal["last", "best-val"] = "last"
    """Weights that are tested: the last, or the best on validation."""
    train_fraction: Annotated[float, Gt(0), Le(1)] = 1.0
    """Stratified share of the training images that is used."""
    train_limit: Annotated[int, Ge(2)] | None = None
    """At most so many training images; a limited run is another run."""
    test_limit: Annotated[int, Ge(1)] | None = None
    """At most so many test images; a limited run is another run."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp16"
    """Autocast type on CUDA (fp16 where the card has no bf16); a CPU always computes in fp32, which is faster there."""
    deterministic: bool = True
    """Only deterministic algorithms on CUDA."""
    evaluate: Literal["test", "val"] = "test"
    """Images that the trained network is scored on: test, or val, where the test images are never opened."""
    weights: str = "none"
    """Initial weights of the backbone: none (scratch), a .safetensors, .pt or .pth file, or run:ID of the store."""
    freeze: str = "none"
    """What does not learn: none, backbone (not mechanism and head), all-but-head, or pattern:REGEX of parameters."""
    freeze_epochs: Annotated[int, Ge(0)] = 0
    """For so many epochs, the first ones, that does not learn; 0 for the whole run."""
    backbone_lr: Annotated[float, Gt(0), Lt(float("inf"))] = 1.0
    """Learning rate of the backbone, as a multiple of the run's."""
    mechanism_lr: Annotated[float, Gt(0), Lt(float("inf"))] = 1.0
    """Learning rate of the mechanism, as a multiple of the run's; a feature of the arm, like init."""
    head_lr: Annotated[float, Gt(0), Lt(float("inf"))] = 1.0
    """Learning rate of the classifier, as a multiple of the run's."""
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    """Factor of the backbone's learning rate from each layer to the one below it: timm's layers, else the stages."""
    frozen_norm: bool = False
    """Batch norm of the backbone keeps its running statistics and its scales, and computes with them in training."""
    vary: Literal["all", "init", "order", "augment", "noise", "split"] = "all"
    """What follows the seed: all but the split, or one source of chance alone, the others as under seed 0."""
    seed: Annotated[int, Ge(0)] = 0
    """Repetition number; every random stream derives from it."""

    def __post_init__(self) -> None:
        found, choices = _examined(self.fields)
        if found:
            raise BadSpec(found)
        vars(self)["resolved"] = Resolved.of(self.fields, choices)
        vars(self)["weights"] = str(self.resolved.weights)  # a file's hash with it: the run stays what it is without it

    @functools.cached_property
    def resolved(self) -> Resolved:
        """Its texts as what they ask for: made once, when the spec is checked, and taken by all that comes after."""
        return Resolved.of(self.fields, _examined(self.fields)[1])

    def seed_of(self, source: Source) -> int:
        """The seed of one source of chance; images are split the same way in every run, unless that alone is varied."""
        followed = self.vary == source or (self.vary == "all" and source != "split")
        return self.seed if followed else 0

    @property
    def fields(self) -> dict[str, Any]:
        """Its fields as plain values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "RunSpec":
        """The spec whose fields were written as JSON, which has no tuples."""
        stages = fields.get("stages")
        return cls(**{**fields, "stages": tuple(stages) if stages is not None else None})

    @functools.cached_property
    def id(self) -> str:
        """Twelve hex digits of the canonical form: `se`, `SE` and `se(reduction=16)` are one run."""
        return name_of(canonical(self))


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a run is executed: never part of its name, always recorded; what can change bits is its numerics."""

    device: str = "auto"
    """cpu, cuda, cuda:N, mps (never measured), or auto for a CUDA GPU if there is one."""
    threads: int = 1
    """CPU threads of a run; 0 for all cores. Other numbers give other bits."""
    compile: Literal["never", "auto", "always"] = "never"
    """Compile the network with torch.compile; auto: on a GPU, where a run is long enough to pay for it."""
    graphs: Literal["auto", "never", "always"] = "auto"
    """Start a training step on a GPU at once, as a recorded graph; auto: where network and mechanism are ours."""
    micro_batch: Literal["never", "auto"] = "never"
    """Take a batch in parts where memory does not hold it whole; auto keeps the recipe, and needs no batch norm."""
    numerics: Literal["native", "portable"] | None = None
    """portable: the same bits on every CPU with AVX2, slower, never on a GPU; native: this machine's own; None: as a
    study says."""
    store: str = dataclasses.field(default_factory=lambda: os.environ.get("ATTNBENCH_STORE", "runs"))
    """Folder of runs."""
    data_dir: str = dataclasses.field(default_factory=lambda: os.environ.get("ATTNBENCH_DATA_DIR", "data"))
    """Folder of data sets."""
    tracker: Literal["mlflow", "console", "none"] = "mlflow"
    """Where curves are shown besides the journal: mlflow (and the console), console, or none."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints inside a long epoch; each epoch's end has one anyway."""

    @property
    def thread_count(self) -> int:
        """CPU threads of a run on this machine."""
        return self.threads or os.cpu_count() or 1

    def __post_init__(self) -> None:
        found = {str(path[0]): what for path, what in violations(Runtime, vars(self))}
        if self.threads < 0:
            found["threads"] = f"{self.threads} must be at least 0"
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            found["device"] = f"{self.device!r} is not one of 'auto', 'cpu', 'cuda', 'cuda:N', 'mps'"
        if self.numerics == "portable" and self.device.startswith(("cuda", "mps")):
            found["device"] = f"{self.device!r} has no portable numerics, which are a CPU's; give numerics 'native'"
        if self.numerics == "portable" and self.compile == "always":
            found["compile"] = "compiled code takes this processor's own instructions; give numerics 'native'"
        if found:
            raise BadSpec(found)
        for name in ("store", "data_dir"):  # a shell leaves the ~ of --store=~/runs as it is
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))  # noqa: PTH111


def canonical(spec: RunSpec) -> dict[str, object]:
    """The form that is hashed: one spelling of names, numbers in their field's type, no field without effect.

    Besides the fields it holds the versions of the cards, or the digest of a user's own source file.
    """
    found = spec.resolved
    where, plain = found.place or Place("", None, 1), found.attention.entry.name == "none"
    fields: dict[str, object] = {
        **spec.fields,
        "dataset": str(found.dataset),
        "attention": str(found.attention),
        "backbone": str(found.backbone),
        "site": where.site or None,
        "stages": None if where.stages is None else sorted(set(where.stages)),
        "every": where.every,
        "init": "own" if plain else spec.init,
        "momentum": None if spec.optimizer == "adamw" else spec.momentum,
        "augment": "+".join(found.augmentations) or "none",
        "image_size": found.image_size,
        "normalise": _normalise_text(spec.normalise, found.constants),
        "test_limit": spec.test_limit if spec.evaluate == "test" else None,
        "vary": spec.vary if spec.seed else "all",
        **finetuning.form(spec.fields, found.weights, plain),
    }
    fields = {name: value for name, value in fields.items() if name not in LATER or value != LATER[name]}
    for name in _FLOATS & {name for name, value in fields.items() if value is not None}:
        fields[name] = float(fields[name])  # type: ignore[arg-type]
    versions = {
        "attention": found.attention.identity,
        "backbone": found.backbone.identity,
        "dataset": found.dataset.identity,
    }
    return {**fields, "versions": versions}


def name_of(form: Mapping[str, object]) -> str:
    """The name of the run that has this canonical form."""
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:12]


def mistakes(values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the fields of a run: field -> message; empty if nothing is."""
    return _examined(values)[0]


def _examined(values: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    return examined(values, {str(path[0]): what for path, what in violations(RunSpec, values)})


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field: the help, the docs and the column title."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        ast.unparse(field.target): ast.literal_eval(doc.value)
        for field, doc in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr)
    }


FINE_TUNING = {
    "weights": "none",
    "freeze": "none",
    "freeze_epochs": 0,
    **dict.fromkeys(("backbone_lr", "mechanism_lr", "head_lr", "layer_decay"), 1.0),
    "frozen_norm": False,
}
"""Fields that studies planned earlier have not: cells without them keep their names, too."""
LATER = {
    "every": 1,
    "init": "own",
    "averaging": 0.0,
    "progressive": 0.0,
    "tta": "none",
    "evaluate": "test",
    "vary": "all",
    **FINE_TUNING,
}
"""Fields that runs stored earlier have not, with the value that changes nothing: left out there, so that names stay."""
_FLOATS = {name for name, kind in RunSpec.__annotations__.items() if getattr(kind, "__origin__", kind) is float}


def _normalise_text(text: str, constants: Constants | None) -> str:
    return text if constants is None else " / ".join(" ".join(map(repr, part)) for part in constants)
