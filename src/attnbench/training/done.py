"""Which runs are done: trained to the end, on the images as they lie there now."""

from collections.abc import Iterable
from pathlib import Path

from attnbench.console import say
from attnbench.data.cache import there
from attnbench.data.splits import load_splits
from attnbench.errors import DataProblem
from attnbench.spec.run import RunSpec
from attnbench.store.runs import RunRecord, Store

DECIDES = ("dataset", "image_size", "val_fraction", "train_fraction", "train_limit", "test_limit", "evaluate")
"""Fields of a run that say which images it sees."""


def pending(specs: Iterable[RunSpec], store: Store, data_dir: str | Path) -> list[RunSpec]:
    """The runs that are still to be done, in order: those without a record, or with one of other images.

    Files that did not change since they were decoded are not read. Data that are not there any more change nothing.
    """
    now: dict[tuple[object, ...], tuple[str, str] | None] = {}
    left = []
    for spec in specs:
        record = store.record(spec.id)
        if record is not None and record.done:
            which = (*(getattr(spec, name) for name in DECIDES), spec.seed_of("split"))
            if which not in now:
                now[which] = _fingerprints(spec, data_dir)
            if not _differs(record, now[which]):
                continue
        left.append(spec)
    return left


def finished(spec: RunSpec, store: Store, data_dir: str | Path) -> RunRecord | None:
    """A run's record, if it is done; one of other images than are there now is set aside, and that is said."""
    record = store.record(spec.id)
    if record is None or not record.done:
        return None
    if not pending([spec], store, data_dir):
        return record
    aside = store.set_aside(spec.id)
    say(f"run {spec.id} was done on other images than are there now and is done again; its old record: {aside}")
    return None


def _differs(record: RunRecord, now: tuple[str, str] | None) -> bool:
    """Whether a record is of other images; not where either side is unknown."""
    return now is not None and all(record.images_seen) and record.images_seen != now


def _fingerprints(spec: RunSpec, data_dir: str | Path) -> tuple[str, str] | None:
    """Those of the data and of the splits as they lie there; None where that cannot be told."""
    if not there(spec.resolved.dataset, data_dir):
        return None
    try:
        splits = load_splits(spec, data_dir)
    except DataProblem as problem:
        say(f"whether the runs that are done saw these images cannot be told: {problem}")
        return None
    return splits.data_fingerprint, splits.split_fingerprint
