"""Runs made by hand, of accuracies that were chosen, as the runner writes them; and runs and pages read back."""

import base64
import dataclasses
import json
import zlib
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from attnbench import RunSpec, Store, Study, compare
from attnbench.report import html
from attnbench.spec.run import canonical
from attnbench.store.runs import RunRecord

ARMS = ["none", "se", "cbam", "constant", "static", "random", 'random(of="cbam")']
PLAN: dict[str, Any] = {
    "base": {"epochs": 3, "backbone": "resnet20"},
    "grid": {"dataset": ["digits", "fashionmnist"], "attention": ARMS},
    "where": [{"if": {"dataset": "fashionmnist"}, "set": {"val_fraction": 0.1}}],
    "seeds": 6,
    "failures": "drop",
}
GAINS = {
    "digits": {"none": (85.0, 0.25), "se": (88.0, 0.5), "cbam": (85.3, 0.9), "constant": (82.0, 0.5),
               "static": (85.0, 0.25), "random": (85.7, 0.6), 'random(of="cbam")': (84.5, 0.6)},
    "fashionmnist": {"none": (70.0, 0.12), "se": (70.75, 0.12), "cbam": (70.5, 1.5), "constant": (70.0, 0.3),
                     "static": (69.8, 0.6), "random": (67.0, 0.9), 'random(of="cbam")': (71.0, 1.2)},
}  # fmt: skip
"""Mean and spread over seeds of each arm's accuracy in percent: every kind of verdict comes out of them."""
MECHANISMS = ("se", "cbam")
"""Those of the arms that are no controls."""
NAMES = {"digits": "digits", "fashionmnist": "FashionMNIST"}
"""The data sets as they are asked for, and as they are called."""
VOID = {"meta", "link", "br", "hr", "img", "input"}


def study(name: str = "made", **changed: Any) -> Study:
    """Two data sets, every mechanism and every control, six seeds; the second data set has validation images."""
    fields = {**PLAN, **changed}
    if "fashionmnist" not in fields["grid"].get("dataset", ()):
        fields["where"] = []
    return Study(name=name, **fields)


def fill(store: Path, plan: Study, gains: Mapping[str, Any] = GAINS, **images: Any) -> list[RunRecord]:
    """Every run of a study, with the accuracies that `gains` asks for; the seeds of a data set share a part."""
    made = []
    for spec in plan.runs():
        mean, spread = gains.get(spec.dataset, GAINS["digits"]).get(spec.attention, (85.0, 0.5))
        shared, own = (
            _rng(*of).normal() for of in ((spec.dataset, spec.seed), (spec.dataset, spec.attention, spec.seed))
        )
        made.append(run(store, spec, mean + spread * (0.5 * shared + 0.87 * own), **images))
    return made


def run(
    store: Path, spec: RunSpec, accuracy: float, *, images: int = 600, names: tuple[str, ...] = (), error: str = ""
) -> RunRecord:
    """One run's folder: `accuracy` to the nearest image. The last class has no test image, so the mean skips it."""
    classes = len(names) or 10
    labels = _rng("labels", spec.dataset).integers(0, classes - 1, images)
    difficulty = _rng("images", spec.dataset).normal(size=images)
    rng = _rng(spec.dataset, spec.attention, spec.seed, "run")
    order = np.argsort(difficulty + 0.5 * rng.normal(size=images))
    right = np.zeros(images, bool)
    right[order[: round(images * accuracy / 100)]] = True
    logits = _logits(labels, right, classes, rng)
    record = dataclasses.replace(
        _record(spec, rng, names or tuple(f"class {place}" for place in range(classes))),
        **({"status": "failed", "error": error} if error else {"status": "done"}),
        **{
            spec.evaluate: {}
            if error
            else {"accuracy": 100 * int(right.sum()) / images, "loss": _loss(logits, labels), "images": images}
        },
    )
    folder = store / record.id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(record.to_json())
    half = logits.astype(np.float16)
    np.savez_compressed(folder / "predictions.npz", logits=half, labels=labels, predicted=logits.argmax(1))
    return record


def gate(store: Path, record: RunRecord, name: str, change: float) -> None:
    """What `evaluate` leaves beside a run: its accuracy with other gates."""
    found = {"gate": name, "accuracy": record.accuracy + change, "loss": 0.7, "images": 600, "sites": 9, "numerics": {}}
    (store / record.id / f"gate-{name}.json").write_text(json.dumps(found))


def fail(store: Path, record: RunRecord) -> None:
    """Make a run one that failed."""
    lost = dataclasses.replace(record, status="failed", error="loss is nan", test={})
    (store / record.id / "record.json").write_text(lost.to_json())


@dataclasses.dataclass
class Arm:
    """One arm's files as arrays, in the order of the seeds."""

    name: str
    records: list[dict]
    gates: list[dict[str, float]]
    accuracy: np.ndarray
    predicted: np.ndarray
    logits: np.ndarray
    labels: np.ndarray

    @property
    def seeds(self) -> list[int]:
        return [record["spec"]["seed"] for record in self.records]

    @property
    def right(self) -> np.ndarray:
        return 100.0 * (self.predicted == self.labels)


@dataclasses.dataclass
class Shown:
    """A page, what it is about, and the files behind it."""

    root: ElementTree.Element
    specs: dict
    pairing: str
    margin: float
    cells: list[dict[str, Arm]]

    @classmethod
    def of(cls, html: str, pairing: str, margin: float, cells: list[dict[str, Arm]]) -> "Shown":
        root = tree(html)
        return cls(root, specs_of(root), pairing, margin, cells)

    def section(self, place: int) -> ElementTree.Element:
        found = self.root.find(f".//section[@id='cell-{place}']")
        assert found is not None
        return found

    def table(self, place: int | None, begins: str) -> list[list[str]]:
        """The rows of the table of a cell whose caption begins so; without a place, of the whole page."""
        for table in (self.root if place is None else self.section(place)).iter("table"):
            if text(table.find("caption")).startswith(begins):
                return [[text(one) for one in row] for row in table.find("tbody")]
        return []

    def pair(self, arm: Arm, other: Arm, pairing: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Accuracies as they are analysed: all, or those of the seeds that both have."""
        if (pairing or self.pairing) == "independent":
            return arm.accuracy, other.accuracy
        one, two = shared(arm, other)
        return arm.accuracy[one], other.accuracy[two]


def shared(arm: Arm, other: Arm) -> tuple[list[int], list[int]]:
    both = [seed for seed in arm.seeds if seed in other.seeds]
    return [arm.seeds.index(seed) for seed in both], [other.seeds.index(seed) for seed in both]


def read(store: Path) -> list[dict[str, Arm]]:
    """Cells in the order of the page, and in each the arms: the baseline, mechanisms by their gain, and controls."""
    found: dict[tuple[str, str], list[Path]] = {}
    for file in store.glob("*/record.json"):
        record = json.loads(file.read_text())
        if record["status"] == "done":
            found.setdefault((record["spec"]["dataset"], record["spec"]["attention"]), []).append(file)
    arms = {of: _arm(of[1], files) for of, files in found.items()}
    sets = [dataset for dataset in NAMES if (dataset, "none") in arms]
    ranks: dict[str, list[int]] = {}
    for dataset in sets:
        own = {name: arm.accuracy.mean() for (of, name), arm in arms.items() if of == dataset and name != "none"}
        for place, name in enumerate(sorted(own, key=lambda name: (-own[name], name))):
            ranks.setdefault(name, []).append(place)
    order = ["none", *sorted(ranks, key=lambda name: (name not in MECHANISMS, np.mean(ranks[name])))]
    return [{name: arms[dataset, name] for name in order if (dataset, name) in arms} for dataset in sets]


def _arm(name: str, files: list[Path]) -> Arm:
    kept = sorted(((json.loads(file.read_text()), file) for file in files), key=lambda one: one[0]["spec"]["seed"])
    gates = [
        {g["gate"]: g["accuracy"] for g in map(json.loads, map(Path.read_text, file.parent.glob("gate-*.json")))}
        for _, file in kept
    ]
    with_arrays = [dict(np.load(file.with_name("predictions.npz"))) for _, file in kept]
    predicted, logits = (np.stack([each[what] for each in with_arrays]) for what in ("predicted", "logits"))
    accuracy = 100 * (predicted == with_arrays[0]["labels"]).mean(1)
    assert np.allclose(accuracy, [record["test"]["accuracy"] for record, _ in kept])
    return Arm(name, [record for record, _ in kept], gates, accuracy, predicted, logits, with_arrays[0]["labels"])


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON: a browser reads no figure at all")


def rendered(study: Study, store: Path) -> str:
    """The page alone: its figures are not drawn as files."""
    return html(compare(study, Store(store)))


def specs_of(root: ElementTree.Element) -> dict[str, Any]:
    """The charts that a page holds packed, by name."""
    packed = root.find(".//script[@id='specs']")
    assert packed is not None
    text = zlib.decompress(base64.b64decode(packed.text or "")).decode() if packed.text else "{}"
    found: dict[str, Any] = json.loads(text, parse_constant=_no_number)
    return found


def text(element: ElementTree.Element) -> str:
    """What a reader sees of an element, each run of spaces as one."""
    return " ".join("".join(element.itertext()).split())


def tree(html: str) -> ElementTree.Element:
    """The page as a tree; an element that is closed in the wrong place is an error."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open, f"never closed: {reader.open}"
    return reader.builder.close()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.builder, self.open = ElementTree.TreeBuilder(), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice: {attrs}"
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        self.open.append(tag)
        if tag in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        self.builder.data(data)


def _rng(*names: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


def _logits(labels: np.ndarray, right: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 N x K, whose largest is the true class exactly where it is to be right.

    In a few of those, class 0 is so near that in half precision it comes out as large, and as the first.
    """
    made = (2.5 * rng.standard_normal((len(labels), classes))).astype(np.float32)
    rows, wrong = np.arange(len(labels)), np.flatnonzero(~right)
    _swap(made, rows, made.argmax(1), labels)
    _swap(made, wrong, labels[wrong], (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes)
    near = np.flatnonzero(right & (labels > 0))[:5]
    made[near, 0] = np.nextafter(made[near, labels[near]], np.float32(-np.inf))
    return made


def _loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross entropy."""
    apart = logits.astype(float) - logits[np.arange(len(labels)), labels, None]
    return float(np.log(np.exp(apart).sum(1)).mean())


def _swap(made: np.ndarray, rows: np.ndarray, one: np.ndarray, two: np.ndarray) -> None:
    made[rows, one], made[rows, two] = made[rows, two], made[rows, one]


def _record(spec: RunSpec, rng: np.random.Generator, names: tuple[str, ...]) -> RunRecord:
    size = zlib.crc32(spec.attention.encode()) % 900 if spec.attention != "none" else 0
    return RunRecord(
        id=spec.id,
        spec=dataclasses.asdict(spec),
        canonical=canonical(spec),
        status="done",
        recipe="classic",
        selected={"rule": "last", "epoch": spec.epochs},
        curves=[_point(epoch, spec, rng) for epoch in range(1, spec.epochs + 1)],
        input={"classes": len(names), "channels": 3, "image_size": 8, "normalise": [[0.5] * 3] * 2, "names": names},
        weights_sha256=f"{rng.integers(2**32):064x}",
        data_fingerprint=f"data of {spec.dataset}",
        split_fingerprint=f"split of {spec.dataset}",
        numerics={"device": "cpu", "threads": 1},
        environment={"code": "one", "python": "3.11.2", "packages": {"numpy": "2.1.0"}},
        cards=spec.resolved.cards(),
        cost={"parameters": 270_000 + size, "macs": 41_000_000 + 7 * size},
        timings={"prepare": 0.1, "train": 60 + 60 * float(rng.random()), "test": 0.2},
        resumed=int(spec.seed == 1),
    )


def _point(epoch: int, spec: RunSpec, rng: np.random.Generator) -> dict[str, float]:
    splits = ("train", "val") if spec.val_fraction else ("train",)
    slower = zlib.crc32(spec.attention.encode()) % 5 if spec.attention != "none" else 0
    point = {"epoch": epoch, "lr": 0.1, "cpu_seconds": 20 + slower + 2 * float(rng.random())}
    for split in splits:
        point |= {f"{split}_loss": 2 / epoch + 0.2 * rng.random(), f"{split}_accuracy": 60 + 5 * epoch + rng.random()}
    return point
