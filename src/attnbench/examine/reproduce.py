"""Retrain a stored run under its recorded numerics and say whether it came out the same."""

import statistics
import tempfile
from dataclasses import dataclass
from typing import Any, Literal

from attnbench.errors import AttnbenchError
from attnbench.execution.sweep import Sweep, execute
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.environment import environment
from attnbench.store.runs import RunRecord, Store


@dataclass(frozen=True)
class Reproduction:
    """What a second training of a run gave, beside the first."""

    verdict: Literal["identical", "within tolerance", "different"]
    stored: RunRecord
    again: RunRecord
    tolerance: float | None
    """Percentage points: twice the standard deviation over the seeds of the same cell; None below three seeds."""
    changed: tuple[str, ...]
    """What is not as it was: numerics, environment, data, code."""

    def __str__(self) -> str:
        stored, now = self.stored.accuracy, self.again.accuracy
        known = "none, below three seeds" if self.tolerance is None else f"{self.tolerance:.4f}"
        first = f"{self.verdict}: {stored:.4f} % stored, {now:.4f} % now ({now - stored:+.4f}; tolerance {known})"
        return "\n".join([first, *(f"changed: {what}" for what in self.changed)])


def reproduce(run: str, runtime: Runtime) -> Reproduction:
    """Train a stored run again, in a store of its own, under the numerics that were recorded.

    Raises:
        StoreProblem: no such run.
        AttnbenchError: the run could not be trained again.
    """
    store = Store(runtime.store).holding(run)
    stored = store.find(run)
    with tempfile.TemporaryDirectory(prefix="attnbench-reproduce-") as aside:
        replay = Runtime(
            device="cpu" if stored.numerics["device"] == "cpu" else "cuda",
            threads=stored.numerics["threads"],
            compile=stored.numerics["compile"],
            numerics="portable" if stored.numerics.get("portable") else "native",
            store=aside,
            data_dir=runtime.data_dir,
            tracker="none",
        )
        failures = execute(Sweep([RunSpec.of(stored.spec)], replay, stored.recipe))
        if failures:
            raise AttnbenchError(f"run {stored.id} could not be trained again: {failures[0].reason}")
        again = Store(aside).records()[0]
    tolerance = _tolerance(stored, store.records())
    return Reproduction(_verdict(stored, again, tolerance), stored, again, tolerance, tuple(_changes(stored, again)))


def _verdict(
    stored: RunRecord, again: RunRecord, tolerance: float | None
) -> Literal["identical", "within tolerance", "different"]:
    if stored.weights_sha256 == again.weights_sha256 and stored.accuracy == again.accuracy:
        return "identical"
    same_data = stored.split_fingerprint == again.split_fingerprint
    elsewhere = stored.numerics != again.numerics
    if elsewhere and same_data and tolerance is not None and abs(stored.accuracy - again.accuracy) <= tolerance:
        return "within tolerance"
    return "different"


def _tolerance(stored: RunRecord, records: list[RunRecord]) -> float | None:
    """Twice the standard deviation over the seeds of the same cell."""

    def cell(record: RunRecord) -> dict[str, Any]:
        return {**record.canonical, "seed": None}

    peers = [record.accuracy for record in records if record.done and cell(record) == cell(stored)]
    return 2 * statistics.stdev(peers) if len(peers) >= 3 else None


def _changes(stored: RunRecord, again: RunRecord) -> list[str]:
    now = environment()
    changes = [
        f"numerics: {name} was {stored.numerics.get(name)}, is {value}"
        for name, value in again.numerics.items()
        if stored.numerics.get(name) != value
    ]
    for name in ("data_fingerprint", "split_fingerprint"):
        if getattr(stored, name) != getattr(again, name):
            changes.append(f"data: {name} was {getattr(stored, name)}, is {getattr(again, name)}")
    if stored.environment.get("code") != now["code"]:
        changes.append(f"code: digest was {stored.environment.get('code')}, is {now['code']}")
    for name in ("python", "packages", "platform", "cpu"):
        if stored.environment.get(name) != now[name]:
            changes.append(f"environment: {name} was {stored.environment.get(name)}, is {now[name]}")
    return changes
