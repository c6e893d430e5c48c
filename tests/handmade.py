"""Records as the runner writes them, of runs that nobody trained."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from attnbench import RunSpec, Store
from attnbench.spec.run import canonical
from attnbench.store.runs import RunRecord

ACCURACY = {
    "none": [91.25, 90.5, 92.0, 90.75, 91.5],
    "se": [93.25, 92.5, 94.0, 93.5, 92.75],
    "cbam": [91.0, 90.25, 92.25, 90.5, 91.75],
}
"""Accuracy of each seed: SE lies above all of none's, CBAM among them."""

PLAN = "name: plan\nbase: {dataset: digits, epochs: 3}\ngrid: {attention: [none, se, cbam]}\nseeds: 5\n"


def record(attention: str, seed: int, accuracy: float, given: dict | None = None, **changed) -> RunRecord:
    """The record of a run as the runner writes it, but for the training."""
    fields = {"dataset": "digits", "epochs": 3, "attention": attention, "seed": seed}
    spec = RunSpec(**{**fields, **(given or {})})
    made = RunRecord(
        id=spec.id,
        spec=dataclasses.asdict(spec),
        canonical=canonical(spec),
        status="done",
        recipe="classic",
        test={"accuracy": accuracy, "loss": 0.5, "images": 360},
        weights_sha256="0" * 64,
        data_fingerprint="data",
        split_fingerprint="split",
        numerics={"device": "cpu", "threads": 1},
        environment={"code": "one"},
        cards=spec.resolved.cards(),
        cost={"parameters": 1000 + len(attention), "macs": 5000},
        timings={"train": 1.5},
    )
    return dataclasses.replace(made, **changed)


def records(*attentions: str, given: dict | None = None, **changed: object) -> list[RunRecord]:
    return [
        record(attention, seed, accuracy, given, **changed)
        for attention in attentions or ACCURACY
        for seed, accuracy in enumerate(ACCURACY[attention])
    ]


def stored(made: Iterable[RunRecord], folder: Path | str = "runs") -> Store:
    store = Store(folder)
    for each in made:
        store.folder(each.id).mkdir(parents=True, exist_ok=True)
        (store.folder(each.id) / "record.json").write_text(each.to_json())
    return store
