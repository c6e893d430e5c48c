"""A run as a value: `RunSpec` decides the numbers and names the run, `Runtime` only says how it is executed."""

import ast
import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from attnbench.catalogue.refs import nearest
from attnbench.catalogue.registry import ATTENTION, BACKBONES, DATASETS, card_of, place, sites
from attnbench.errors import BadReference, BadSpec
from attnbench.spec.validation import violations

AUGMENTATIONS = ("crop", "flip", "dihedral", "cutout")


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
    """Network that the mechanism is put into."""
    site: str | None = None
    """Where the mechanism goes: block, pre, post, identity, conv, stage, paper, pattern:REGEX; None for its kind's."""
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
    """Autocast type on CUDA; a CPU always computes in fp32, where half precision is far slower."""
    deterministic: bool = True
    """Only deterministic algorithms on CUDA."""
    seed: Annotated[int, Ge(0)] = 0
    """Repetition number; every random stream derives from it."""

    def __post_init__(self) -> None:
        found = mistakes(vars(self))
        if found:
            raise BadSpec(found)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "RunSpec":
        """The spec whose fields were written as JSON, which has no tuples."""
        stages = fields.get("stages")
        return cls(**{**fields, "stages": tuple(stages) if stages is not None else None})

    @functools.cached_property
    def id(self) -> str:
        """Twelve hex digits of the canonical form: `se`, `SE` and `se(reduction=16)` are one run."""
        return hashlib.sha256(json.dumps(canonical(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a run is executed: never part of its name, always recorded; what can change bits is its numerics."""

    device: str = "auto"
    """cpu, cuda, cuda:N, or auto for the GPU if there is one."""
    threads: int = 1
    """CPU threads of a run; 0 for all cores. Other numbers give other bits."""
    compile: bool = False
    """Compile the network with torch.compile; pays off for long runs only."""
    numerics: Literal["native", "portable"] | None = None
    """portable: the same bits on every CPU with AVX2, but slower; native: this machine's own; None: as a study says."""
    store: str = dataclasses.field(default_factory=lambda: os.environ.get("ATTNBENCH_STORE", "runs"))
    """Folder of runs."""
    data_dir: str = dataclasses.field(default_factory=lambda: os.environ.get("ATTNBENCH_DATA_DIR", "data"))
    """Folder of data sets."""
    tracker: Literal["mlflow", "console", "none"] = "mlflow"
    """Where curves are shown besides the journal: mlflow (and the console), console, or none."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints inside a long epoch; each epoch's end has one anyway."""

    def __post_init__(self) -> None:
        found = {str(path[0]): what for path, what in violations(Runtime, vars(self))}
        if self.threads < 0:
            found["threads"] = f"{self.threads} must be at least 0"
        if self.device.split(":")[0] not in ("auto", "cpu", "cuda"):
            found["device"] = f"{self.device!r} is not one of 'auto', 'cpu', 'cuda', 'cuda:N'"
        if self.numerics == "portable" and self.device.startswith("cuda"):
            found["device"] = f"{self.device!r} has no portable numerics, which are a CPU's; give numerics 'native'"
        if self.numerics == "portable" and self.compile:
            found["compile"] = "compiled code takes this processor's own instructions; give numerics 'native'"
        if found:
            raise BadSpec(found)


def canonical(spec: RunSpec) -> dict[str, object]:
    """The form that is hashed: one spelling of names, numbers in their field's type, no field without effect.

    Besides the fields it holds the versions of the cards, or the digest of a user's own source file.
    """
    attention, _ = ATTENTION.resolve(spec.attention)
    backbone, _ = BACKBONES.resolve(spec.backbone)
    dataset, _ = DATASETS.resolve(spec.dataset)
    where = place(spec.attention, spec.site, spec.stages, spec.every)
    plain = attention.name == "none"
    fields: dict[str, object] = {
        **vars(spec),
        "dataset": DATASETS.canonical(spec.dataset),
        "attention": ATTENTION.canonical(spec.attention),
        "backbone": BACKBONES.canonical(spec.backbone),
        "site": None if plain else where.site,
        "stages": None if plain or where.stages is None else sorted(set(where.stages)),
        "momentum": None if spec.optimizer == "adamw" else spec.momentum,
        "augment": "+".join(augmentations(spec.augment)) or "none",
        "image_size": spec.image_size or dataset.card.image_size or None,
        "normalise": _normalise_text(spec.normalise),
    }
    fields.pop("id", None)  # the cached property, not a field
    fields["every"] = where.every
    for name, nothing in LATER.items():
        if fields[name] == nothing or (plain and name in ("every", "init")):
            del fields[name]
    for field in dataclasses.fields(RunSpec):
        if field.name in _FLOATS and fields.get(field.name) is not None:
            fields[field.name] = float(fields[field.name])  # type: ignore[arg-type]
    identities = {
        "attention": ATTENTION.identity(spec.attention),
        "backbone": backbone.identity(),
        "dataset": dataset.identity(),
    }
    return {**fields, "versions": identities}


def mistakes(values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with the fields of a run: field -> message; empty if nothing is."""
    found = {str(path[0]): what for path, what in violations(RunSpec, values)}
    for name, registry in (("dataset", DATASETS), ("attention", ATTENTION), ("backbone", BACKBONES)):
        if name in values and name not in found:
            try:
                registry.resolve(values[name])
            except BadReference as problem:
                found[name] = str(problem)
    return found | _conflicts(values, found)


def augmentations(text: str) -> list[str]:
    """The augmentations named in `crop+flip+cutout`, in the order in which they are applied."""
    asked = [] if text == "none" else text.split("+")
    unknown = [name for name in asked if name not in AUGMENTATIONS]
    if unknown:
        instead = nearest(unknown[0], AUGMENTATIONS)
        known = ", ".join(map(repr, ("none", *AUGMENTATIONS)))
        raise ValueError(f"{unknown[0]!r} is not one of {known}, joined by +{instead}")
    return [name for name in AUGMENTATIONS if name in asked]


def normalise_constants(text: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation per channel from `M M M / S S S`; None for `train`."""
    if text == "train":
        return None
    try:
        mean, std = (tuple(float(word) for word in part.split()) for part in text.split("/"))
    except ValueError:
        raise ValueError(f'{text!r} is neither "train" nor "MEAN ... / STD ..."') from None
    if len(mean) != len(std) or not all(map(math.isfinite, mean)) or not all(0 < s < math.inf for s in std):
        raise ValueError(f"{text!r} needs finite means and as many positive standard deviations")
    return mean, std


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field: the help, the docs and the column title."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        ast.unparse(field.target): ast.literal_eval(doc.value)
        for field, doc in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr)
    }


LATER = {"every": 1, "init": "own", "averaging": 0.0, "progressive": 0.0, "tta": "none"}
"""Fields that runs stored earlier have not, with the value that changes nothing: left out there, so that names stay."""
_FLOATS = {name for name, kind in RunSpec.__annotations__.items() if getattr(kind, "__origin__", kind) is float}


def _conflicts(values: Mapping[str, Any], found: Mapping[str, str]) -> dict[str, str]:
    """What texts and pairs of fields say wrongly, where each field has at least the right type."""
    sound = {name: value for name, value in values.items() if name not in found}
    more: dict[str, str] = {}
    readers: dict[str, Callable[[str], object]] = {"augment": augmentations, "normalise": normalise_constants}
    for name, read in readers.items():
        try:
            read(sound.get(name, "none" if name == "augment" else "train"))
        except ValueError as problem:
            more[name] = str(problem)
    warmup, epochs = sound.get("warmup", 0), sound.get("epochs", 1)
    if wrong := _site_mistake(sound.get("attention", "none"), sound.get("site"), sound.get("backbone")):
        more["site"] = wrong
    if sound.get("init") == "identity" and card_of(sound.get("attention", "none")).kind == "R":
        more["init"] = f"identity: {sound['attention']} takes the place of a convolution and cannot start as nothing"
    splits = DATASETS.resolve(sound["dataset"])[0].card.splits if "dataset" in sound else ("val",)
    no_val = "val" not in splits and not values.get("val_fraction")
    if sound.get("selection") == "best-val" and no_val:
        more["selection"] = "best-val needs validation images; give val_fraction, as in val_fraction=0.1"
    if warmup > epochs and "epochs" in sound:
        more["warmup"] = f"{warmup} epochs of warm-up are more than {epochs} epochs of training"
    return more


def _site_mistake(attention: str, site: str | None, backbone: str | None) -> str:
    if ATTENTION.resolve(attention)[0].name == "none" and site is None:
        return ""
    if site is not None and site.startswith("pattern:"):
        try:
            re.compile(site.removeprefix("pattern:"))
        except re.error as problem:
            return f"{site!r} holds no regular expression: {problem}"
        return ""
    if backbone is None:
        return ""
    known, wanted = sites(*BACKBONES.resolve(backbone)), place(attention, site).site
    if wanted in known or (not known and site is None):  # what could be a site there is seen when it is built
        return ""
    if not known:
        return f"{site!r} is not known in {backbone}; give pattern:REGEX, of the paths of its modules"
    names = ", ".join(map(repr, (*known, "paper")))
    return f"{wanted!r} is not one of {names} or pattern:REGEX{nearest(wanted, known)}"


def _normalise_text(text: str) -> str:
    constants = normalise_constants(text)
    return text if constants is None else " / ".join(" ".join(map(repr, part)) for part in constants)
