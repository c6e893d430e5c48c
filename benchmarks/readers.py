"""Every reader of files that somebody else may have made: valid files, and what reads them."""

import dataclasses
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from attnbench import RunSpec
from attnbench.catalogue.foreign import barred
from attnbench.catalogue.refs import parse
from attnbench.catalogue.registry import ATTENTION, BACKBONES, DATASETS
from attnbench.errors import AttnbenchError, StoreProblem
from attnbench.spec.contest import Contest
from attnbench.spec.run import canonical
from attnbench.spec.study import Study
from attnbench.store import predictions
from attnbench.store.record import RunRecord
from attnbench.store.runs import Store
from attnbench.store.scores import read as read_scores
from attnbench.store.studies import StudyJournal
from attnbench.store.view import View

ROOT = Path(__file__).parent.parent
SPEC = RunSpec(dataset="digits", backbone="resnet20(widths=(4, 8, 8))", attention="se", epochs=2)
RUN = "runs/run"
"""The folder of the run that is read."""


@dataclass(frozen=True)
class Reader:
    """A kind of file, where it lies, valid ones, and what reads it."""

    file: str
    valid: Callable[[], Sequence[bytes]]
    read: Callable[[Path], object]
    share: int = 1
    """Of all inputs: cheap readers get more of them."""
    writes: bool = False
    """Whether it leaves files of its own, which the next input must not find."""


def _studies() -> list[bytes]:
    small = b"""name: mine
recipe: fast
base: {dataset: EuroSAT, backbone: resnet20, image_size: 64, epochs: 6, train_fraction: 0.1}
grid:
  attention: [none, se, "cbam(reduction=8)", 'random(of="se")']
  lr: [0.1, 1e-3]
where:
- if: {attention: se}
  set: {lr: 0.2, stages: [1, 2]}
seeds: 12
looks: [6, 8, 12]
baseline: none
margin: 1.0
pairing: independent
"""
    return [
        small,
        b"name: a\nbase: &b {dataset: digits}\ngrid: {attention: [none, eca]}\n",
        (ROOT / "src/attnbench/demo/quick.yaml").read_bytes(),
    ]


def _read_study(file: Path) -> object:
    kind = Contest if b"\nbudget:" in file.read_bytes() else Study
    with barred():
        return kind.load(file).runs()


def _references() -> list[bytes]:
    return [b'random(of="se(reduction=8)")', b"mypkg.blocks:Gate(ratio=(1, 2.5))", b"se"]


def _read_reference(file: Path) -> object:
    text = file.read_bytes().decode("utf-8", "surrogateescape")
    with barred():
        parse(text)
        for registry in (ATTENTION, BACKBONES, DATASETS):
            try:
                registry.resolve(text)
            except AttnbenchError:
                continue
    return None


@cache
def record() -> RunRecord:
    """A record as the runner writes it."""
    return RunRecord(
        id="run",
        spec=dataclasses.asdict(SPEC),
        canonical=json.loads(json.dumps(canonical(SPEC))),
        status="done",
        recipe="fast",
        test={"accuracy": 50.0, "loss": 1.5, "images": 8},
        selected={"rule": "last", "epoch": 2},
        curves=[{"epoch": n, "lr": 0.1, "train_loss": 1.0, "train_accuracy": 40.0, "seconds": 1.0} for n in (1, 2)],
        input={"classes": 3, "channels": 1, "image_size": 8, "normalise": [[0.5], [0.5]], "names": ["a", "b", "c"]},
        weights_sha256="0" * 64,
        data_fingerprint="data",
        split_fingerprint="split",
        numerics={"device": "cpu", "threads": 1},
        environment={"code": "one", "packages": {"numpy": "2.1.0"}},
        cards={"attention": {"name": "se", "site": "block", "version": 1}, "dataset": {"classes": 3}},
        cost={"parameters": 1000, "macs": 10000},
        timings={"train": 2.0},
    )


def _records() -> list[bytes]:
    failed = dataclasses.replace(record(), status="failed", test={}, error="loss is nan", curves=[], cost={})
    return [record().to_json().encode(), failed.to_json().encode()]


def _read_record(file: Path) -> object:
    store = Store(file.parent.parent)
    found = store.record("run")
    return found and (found.score if found.done else found.error, found.train_seconds, found.clock, store.records())


def _lines(*values: dict[str, Any]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def _journals() -> list[bytes]:
    epochs = [{"event": "epoch", "time": 2.0 + n, "epoch": n, "train_loss": 1.0, "lr": 0.1} for n in (1, 2)]
    return [
        _lines({"event": "start", "time": 1.0}, *epochs, {"event": "done", "time": 5.0, "final_test_accuracy": 50.0})
    ]


def _read_journal(file: Path) -> object:
    store = Store(file.parent.parent)
    store.mend_journal("run", [{"epoch": 1, "train_loss": 1.0}])
    return [(line["event"], line.get("time", 0) + 1) for line in store.journal("run")]


def _study_journals() -> list[bytes]:
    parts = {"margin": 1.0, "pairing": "independent", "baseline": "none", "looks": None, "failures": "worst"}
    plan = {
        "event": "plan",
        "time": 1.0,
        "hash": "a" * 12,
        "begun": False,
        "first": ["a"],
        **parts,
        "seeds": [0, 1],
        "cells": {"a": ["none"]},
    }
    return [_lines(plan, {"event": "look", "time": 2.0, "seen": {"a": {"none": [0, 1], "se": [0, 1]}}})]


def _read_study_journal(file: Path) -> object:
    journal = StudyJournal(Store(file.parent.parent), "mine")
    return journal.looks(), journal.lines(), journal.undeclared(_plan())


@cache
def _plan() -> dict[str, Any]:
    return {
        "margin": 1.0,
        "pairing": "independent",
        "baseline": "none",
        "looks": None,
        "failures": "worst",
        "seeds": [0],
        "cells": {},
    }


@cache
def _network() -> Any:
    from attnbench.networks.network import network_of

    return network_of(SPEC, 3, 1, 8)


@cache
def _checkpoints() -> list[bytes]:
    import torch

    out = io.BytesIO()
    state = {
        "epoch": 1,
        "step": 0,
        "resumed": 0,
        "numerics": {"device": "cpu"},
        "curves": [{"epoch": 1}],
        "images": "x",
    }
    torch.save({**state, "model": {name: value for name, value in list(_network().state_dict().items())[:3]}}, out)
    return [out.getvalue()]


def _read_checkpoint(file: Path) -> object:
    found = Store(file.parent.parent).latest("run")
    return found and (found["epoch"] + found["step"] + found["resumed"], dict(found["numerics"]), list(found["curves"]))


@cache
def _weights() -> list[bytes]:
    from safetensors.torch import save

    return [save({name: value.contiguous() for name, value in _network().state_dict().items()})]


def _read_weights(file: Path) -> object:
    from attnbench.training.predictor import weights_into

    weights_into(_network(), file)
    return file


def _predictions() -> list[bytes]:
    out = io.BytesIO()
    logits = np.linspace(-1, 1, 24).reshape(8, 3)
    np.savez_compressed(out, logits=logits.astype(np.float16), labels=np.arange(8) % 3, predicted=logits.argmax(1))
    return [out.getvalue()]


def _read_predictions(file: Path) -> object:
    trusting = predictions.Predictions(file)
    try:
        return predictions.read(file), trusting.scores()
    except ValueError as problem:  # what its callers expect
        trusting.scores()
        raise StoreProblem(str(problem)) from None


def _caches() -> list[bytes]:
    about = {
        "shape": [4, 2, 2, 1],
        "names": ["a", "b"],
        "left_out": [".txt"],
        "files": ["1", "2", "3", "4"],
        "fingerprint": "f",
    }
    return [json.dumps(about).encode()]


def _arrays() -> list[bytes]:
    out = io.BytesIO()
    np.save(out, np.arange(4))
    return [out.getvalue()]


def _read_cache(file: Path) -> object:
    from attnbench.data.cache import _open

    whole = {
        "labels": np.arange(4),
        "keys": np.zeros(4, "V16"),
        "pixels": np.zeros(4, "V16"),
        "sums": np.zeros((4, 1, 2), np.int64),
    }
    for name, values in whole.items():
        if not (other := file.with_name(f"{name}.npy")).exists():
            np.save(other, values)
    if not (file.parent / "about.json").exists():
        (file.parent / "about.json").write_bytes(_caches()[0])
    if not (file.parent / "images.bin").exists():
        (file.parent / "images.bin").write_bytes(bytes(16))
    found = _open(file.parent)
    return found.images[0].sum(), found.labels.max(), found.sums.sum(), found.names[:1], found.files[:1]


@cache
def _pictures() -> list[bytes]:
    from PIL import Image

    found = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        out = io.BytesIO()
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(out, kind)
        found.append(out.getvalue())
    return found


def _read_images(file: Path) -> object:
    from attnbench.data.decode import decoding, read

    other = file.parent.parent / "b" / "1.png"
    if not other.exists():
        other.parent.mkdir(parents=True)
        for place in (other, other.with_name("2.png"), file.with_name("2.png")):
            place.write_bytes(_pictures()[0])
    entry = DATASETS.find("imagefolder")
    raw = read(entry, {"path": "", "test": ""} | {"path": str(file.parent.parent)}, "train", file.parent.parent.parent)
    return [image.sums for part in decoding(raw, 8, "images") for image in part]


def _scores() -> list[bytes]:
    return [
        b"arm,seed,score,cell,unit\nnone,0,81.2,a,%\nse,0,82.5,a,%\nse,1,nan,a,%\n",
        b"arm;seed;score\nnone;0;0.5\n",
    ]


def _read_scores(file: Path) -> object:
    return read_scores(file).scores()


def _tars() -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        for name in ("a/b.txt", "c.txt"):
            member = tarfile.TarInfo(name)
            member.size = 5
            made.addfile(member, io.BytesIO(b"hello"))
    return [out.getvalue(), gzip.compress(bytes(512))]


def _zips() -> list[bytes]:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/b.txt", "hello" * 10)
        made.writestr("c.txt", "hello")
    return [out.getvalue()]


def _read_archive(file: Path) -> object:
    from attnbench.data.unpacking import unpack

    unpack(file, file.parent / "out")
    return file


def _views() -> list[bytes]:
    return [View.of(SPEC, "mine").to_json().encode()]


def _read_view(file: Path) -> object:
    return list(View.read(file.parent).files(file.parent))


READERS = {
    "study": Reader("study.yaml", _studies, _read_study, 1),
    "reference": Reader("reference", _references, _read_reference, 14),
    "record": Reader(f"{RUN}/record.json", _records, _read_record, 12),
    "journal": Reader(f"{RUN}/journal.jsonl", _journals, _read_journal, 10, True),
    "study journal": Reader("runs/studies/mine.jsonl", _study_journals, _read_study_journal, 8),
    "view": Reader(f"{RUN}/tracking.json", _views, _read_view, 4),
    "predictions": Reader(f"{RUN}/predictions.npz", _predictions, _read_predictions, 4),
    "weights": Reader(f"{RUN}/weights.safetensors", _weights, _read_weights, 1),
    "checkpoint": Reader(f"{RUN}/checkpoint-00001-0000000.pt", _checkpoints, _read_checkpoint, 1, True),
    "cache": Reader("cache/about.json", _caches, _read_cache, 4, True),
    "cache array": Reader("cache/labels.npy", _arrays, _read_cache, 4, True),
    "image folder": Reader("images/a/1.png", _pictures, _read_images, 2),
    "scores": Reader("scores.csv", _scores, _read_scores, 8),
    "tar": Reader("made.tar.gz", _tars, _read_archive, 4, True),
    "zip": Reader("made.zip", _zips, _read_archive, 4, True),
}  # fmt: skip
JSON = ("record", "view", "cache")
"""Readers of one JSON value, whose values are changed too, and not only their bytes."""
