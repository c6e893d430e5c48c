"""The record of a finished run: what training leaves for the half that thinks."""

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from attnbench.errors import StoreProblem
from attnbench.spec.validation import violations
from attnbench.store.predictions import Predictions

NAME = re.compile(r"\w[\w.-]{0,99}")
"""What a run is called: the name of its folder, which leads nowhere else."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run, with all that a report needs: cards too, so that it needs no torch."""

    id: str
    spec: dict[str, Any]
    """The fields of its RunSpec."""
    canonical: dict[str, Any] = field(default_factory=dict)
    """What was hashed: one spelling of names, cards' versions included."""
    status: Literal["done", "failed"]
    """`done`, or `failed` with an `error`."""
    recipe: str = ""
    """The name under which the recipe was asked for; a label."""
    error: str = ""
    test: dict[str, Any] = field(default_factory=dict)
    """`accuracy` in percent, `loss`, and the number of `images`; empty where the test images were never opened."""
    val: dict[str, Any] = field(default_factory=dict)
    """The same on the validation images, of a run that is scored on those instead."""
    selected: dict[str, Any] = field(default_factory=dict)
    """Which epoch's weights were tested, by which rule."""
    curves: list[dict[str, float]] = field(default_factory=list)
    input: dict[str, Any] = field(default_factory=dict)
    """What the network takes: `classes`, `channels`, `image_size`, `normalise` (means, deviations), class `names`."""
    initial: dict[str, Any] = field(default_factory=dict)
    """Weights that the backbone did not draw: their `source`, `sha256`, and what became of them; empty from scratch."""
    weights_sha256: str = ""
    data_fingerprint: str = ""
    split_fingerprint: str = ""
    numerics: dict[str, Any] = field(default_factory=dict)
    """What can change bits besides the spec."""
    environment: dict[str, Any] = field(default_factory=dict)
    cards: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    """Parameters and multiply-accumulates of one image's forward pass."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds of wall time per phase."""
    resumed: int = 0
    """How often the unfinished run was taken up again from a checkpoint."""
    folder: str = field(default="", compare=False)
    """Where the run's files are; not part of `record.json`."""

    @property
    def done(self) -> bool:
        """Whether it was trained to the end and scored."""
        return self.status == "done"

    @property
    def scored(self) -> Literal["test", "val"]:
        """The images that it is scored on."""
        return "val" if self.spec.get("evaluate") == "val" else "test"

    @property
    def score(self) -> float:
        """Accuracy in percent on the images that it is scored on."""
        return float(vars(self)[self.scored]["accuracy"])

    @property
    def images(self) -> str:
        """What those images are called."""
        return {"test": "test", "val": "validation"}[self.scored]

    @property
    def metric(self) -> str:
        """What its score is called in the journal and in MLflow."""
        return f"final_{self.scored}_accuracy"

    @property
    def accuracy(self) -> float:
        """Test accuracy in percent.

        Raises:
            StoreProblem: the run was scored on validation images only.
        """
        if self.scored == "val":
            raise StoreProblem(f"run {self.id} was scored on validation images only: it has no test accuracy")
        return self.score

    @property
    def clock(self) -> str:
        """How `train_seconds` were measured: `cpu`, `device` (by the clock, on a GPU), or `wall` in records of old."""
        if self.numerics.get("device", "cpu") != "cpu":
            return "device"
        return "cpu" if self.curves and all("cpu_seconds" in point for point in self.curves) else "wall"

    @property
    def train_seconds(self) -> float:
        """Seconds of training: CPU time on a CPU, which other load does not change, else time by the clock."""
        return sum(point["cpu_seconds"] for point in self.curves) if self.clock == "cpu" else self.wall_seconds

    @property
    def wall_seconds(self) -> float:
        """Seconds of training by the clock on the wall; nan where they were not kept."""
        return self.timings.get("train", math.nan)

    @property
    def images_seen(self) -> tuple[str, str]:
        """Fingerprints of the images that it was given, and of their split; empty where they were not kept."""
        return self.data_fingerprint, self.split_fingerprint

    @cached_property
    def predictions(self) -> Predictions | None:
        """What it said of each image that it is scored on; None where only the record was kept."""
        file = Path(self.folder) / "predictions.npz"
        return Predictions(file) if file.is_file() else None

    @cached_property
    def gates(self) -> dict[str, dict[str, Any]]:
        """What `attnbench evaluate` gave with other gates: name of the gate -> its `accuracy` and more."""
        found = {}
        for file in sorted(Path(self.folder).glob("gate-*.json")):
            try:
                each = json.loads(file.read_text())
                if wrong := _mistake("", Gate, each):
                    raise ValueError(wrong)
            except (OSError, ValueError, RecursionError) as problem:
                raise StoreProblem(f"{file} cannot be read ({problem}); delete it to evaluate again") from None
            found[each["gate"]] = each
        return found

    def to_json(self) -> str:
        """The record as it lies in `record.json`."""
        values = dataclasses.asdict(self)
        del values["folder"]
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str, folder: str = "") -> "RunRecord":
        """Read a record; fields that a later version added are left out."""
        values = {**json.loads(text), "folder": folder}
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a run is called by."""

    dataset: str
    attention: str
    backbone: str
    seed: Annotated[int, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Form(Named):
    """What is used of the canonical form of a run."""

    versions: dict[str, int | str]
    site: str | None = None
    stages: list[int] | None = None
    every: int = 1
    init: str = "own"
    mechanism_lr: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Versions:
    """What the canonical form of a run says of cards: their versions, or the digest of somebody's own source."""

    dataset: int | str
    attention: int | str
    backbone: int | str


@dataclass(frozen=True, kw_only=True)
class Cards:
    """What is used of the cards in a record."""

    attention: dict[str, Any]
    dataset: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What is used of what a run was measured on."""

    packages: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Asked(Named):
    """What is used of the spec of a run where it is not looked up."""

    epochs: Annotated[int, Ge(1)]
    evaluate: Literal["test", "val"] = "test"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What is used of what a record says of the images that its run was scored on."""

    accuracy: Annotated[float, Ge(0), Le(100)]
    loss: float
    images: Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run that is done cost."""

    parameters: Annotated[int, Ge(1)]
    macs: Annotated[float, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is used of a run that was tested with other gates."""

    gate: str
    accuracy: Annotated[float, Ge(0), Le(100)]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is shown of what the network of a run takes."""

    names: list[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Input(Told):
    """What is used of what the network of a run takes, by which it is built again."""

    classes: Annotated[int, Ge(1), Le(1_000_000)]
    channels: Annotated[int, Ge(1), Le(64)]
    image_size: Annotated[int, Ge(1), Le(2048)]
    normalise: list[list[float]]


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """What is used of the numerics of a run, under which it predicts and is trained again."""

    device: str
    threads: Annotated[int, Ge(1)]
    compile: bool


def input_mistake(record: RunRecord) -> str:
    """Why no network can be built from a record, and used as it was tested; empty if one can."""
    if wrong := _mistake("input", Input, record.input):
        return wrong
    given, names = record.input, record.input.get("names")
    if [len(row) for row in given["normalise"]] != [given["channels"]] * 2:
        return f"input.normalise: not a mean and a deviation for each of {given['channels']} channels"
    if names and len(names) != given["classes"]:
        return f"input.names: {len(names)} names for {given['classes']} classes"
    return numerics_mistake(record)


def numerics_mistake(record: RunRecord) -> str:
    """Why a run cannot be trained again as it was, by its record; empty if it can."""
    return _mistake("numerics", Numerics, record.numerics)


def shape_mistake(record: RunRecord) -> str:
    """What of a record is not of the types that a record has; empty if it all is. Anybody may have written it."""
    checks: list[tuple[str, type, Any]] = [("", RunRecord, vars(record))]
    checks += [("canonical", Form, record.canonical), ("spec", Asked, record.spec), ("cards", Cards, record.cards)]
    checks += [("environment", Environment, record.environment), ("input", Told, record.input)]
    if isinstance(record.canonical, dict):
        checks.append(("canonical.versions", Versions, record.canonical.get("versions")))
    if record.status == "done":
        scored = "val" if isinstance(record.spec, dict) and record.spec.get("evaluate") == "val" else "test"
        checks += [(scored, Scored, vars(record)[scored]), ("cost", Cost, record.cost)]
    for part, kind, values in checks:
        if wrong := _mistake(part, kind, values):
            return wrong
    return "" if NAME.fullmatch(record.id) else f"id: {record.id!r} is no name of a run"


def _mistake(part: str, kind: type, values: Any) -> str:
    """What is wrong with what is used of a part of a record; empty if nothing is."""
    named = [each.name for each in dataclasses.fields(kind)] if isinstance(values, dict) else []
    for place, what in violations(kind, {name: values[name] for name in named if name in values}):
        return f"{'.'.join(map(str, filter(None, (part, *place))))}: {what}"
    return ""
