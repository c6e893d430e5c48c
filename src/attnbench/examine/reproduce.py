"""Retrain a stored run under its recorded numerics and say whether it came out the same."""

import itertools
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from attnbench import devices
from attnbench.analysis.stats import prediction_half_width
from attnbench.errors import Failed, StoreProblem
from attnbench.execution.sweep import Sweep, execute
from attnbench.spec.run import Runtime
from attnbench.store.asked import spec_of
from attnbench.store.environment import environment
from attnbench.store.record import numerics_mistake
from attnbench.store.runs import RunRecord, Store

Verdict = Literal["identical", "within tolerance", "different"]
FEWEST_PEERS = 5
"""Runs of a cell below which its spread says too little for a tolerance."""
MOST_POINTS = 1.0
"""No tolerance is wider, in percentage points: by default two arms this near count as equivalent."""


@dataclass(frozen=True)
class Tolerance:
    """How far from the stored run another training may come out, and how much the two must agree; from its cell."""

    points: float
    """Half the 95 % prediction interval of one more run (Student), at most MOST_POINTS."""
    agreement: float | None
    """Least share of the scored images, in percent, on which two seeds agree; None where predictions are missing."""
    runs: int

    @classmethod
    def of(cls, stored: RunRecord, records: Iterable[RunRecord]) -> "Tolerance | None":
        """By the done runs of the stored run's cell, itself among them; None below FEWEST_PEERS."""
        peers = [record for record in records if record.done and _cell(record) == _cell(stored)]
        if len(peers) < FEWEST_PEERS:
            return None
        half = prediction_half_width([record.score for record in peers])
        shares = [_agreement(one, two) for one, two in itertools.combinations(peers, 2)]
        known = [share for share in shares if share is not None]
        return cls(min(half, MOST_POINTS), min(known) if len(known) == len(shares) else None, len(peers))

    def __str__(self) -> str:
        least = f", {self.agreement:.1f} % agreement" if self.agreement is not None else ""
        return (
            f"{self.points:.4f} points{least}, from the {self.runs} runs of this cell: the 95 % prediction interval of "
            f"one more run, at most {MOST_POINTS:g} point, and the least agreement of two seeds"
        )


@dataclass(frozen=True)
class Reproduction:
    """What a second training of a run gave, beside the first."""

    verdict: Verdict
    stored: RunRecord
    again: RunRecord
    tolerance: Tolerance | None
    """None where the cell has too few runs: then nothing but the same bits is a reproduction."""
    agreement: float | None
    """Share of the scored images, in percent, for which both say the same class; None where predictions are missing."""
    changed: tuple[str, ...]
    """What is not as it was: numerics, environment, data, code."""

    def __str__(self) -> str:
        stored, now = self.stored.score, self.again.score
        of = f"% of the {self.stored.images} images"
        agreed = f"; the same class for {self.agreement:.1f} {of}" if self.agreement is not None else ""
        few = f"none: it needs {FEWEST_PEERS} done runs of this cell in the store"
        lines = [f"{self.verdict}: {stored:.4f} % stored, {now:.4f} % now ({now - stored:+.4f}{agreed})"]
        if self.verdict != "identical":
            lines.append(f"tolerance: {self.tolerance or few}")
        return "\n".join([*lines, *(f"changed: {what}" for what in self.changed)])


def reproduce(run: str, runtime: Runtime, code: Collection[str] = ()) -> Reproduction:
    """Train a stored run again, in a store of its own, under the numerics that were recorded.

    Args:
        code: `package.module:Object` that may be imported because the record names it.

    Raises:
        StoreProblem: no such run, or one that does not say under which numerics it was trained.
        AttnbenchError: the run could not be trained again.
    """
    store = Store(runtime.store).holding(run)
    stored = store.find(run)
    if processes := stored.numerics.get("processes"):
        raise StoreProblem(
            f"run {stored.id} was trained by {processes} processes, which one does not repeat: start the same spec "
            f"with torchrun --nproc-per-node {processes} in another --store and compare weights_sha256"
        )
    spec = spec_of(stored, code)
    if wrong := numerics_mistake(stored):
        raise StoreProblem(f"run {stored.id} has a record that is none: {wrong}")
    tolerance = Tolerance.of(stored, store.records())  # before the work: a record beside it may be broken
    with tempfile.TemporaryDirectory(prefix="attnbench-reproduce-") as aside:
        if source := spec.resolved.weights.run:
            (Path(aside) / source).symlink_to(store.folder(source).resolve())
        failures = execute(Sweep([spec], _as_then(stored, aside, runtime.data_dir), stored.recipe))
        if failures:
            raise Failed(f"run {stored.id} could not be trained again: {failures[0].reason}")
        again = Store(aside).find(spec.id)
        agreement = _agreement(stored, again)  # while its files are there
    verdict = _verdict(stored, again, tolerance, agreement)
    return Reproduction(verdict, stored, again, tolerance, agreement, tuple(_changes(stored, again)))


def _as_then(stored: RunRecord, store: str, data_dir: str) -> Runtime:
    """How a run was trained, on a device of the recorded kind, or on the CPU where there is none."""
    bits = stored.numerics
    return Runtime(
        device=devices.kind(bits["device"]),
        threads=bits["threads"],
        compile="always" if bits["compile"] else "never",
        micro_batch="auto" if bits.get("micro_batches") else "never",
        numerics="portable" if bits.get("portable") else "native",
        store=store,
        data_dir=data_dir,
        tracker="none",
    )


def _verdict(stored: RunRecord, again: RunRecord, tolerance: Tolerance | None, agreement: float | None) -> Verdict:
    if stored.weights_sha256 == again.weights_sha256 and stored.score == again.score:
        return "identical"
    same_data = stored.split_fingerprint == again.split_fingerprint
    elsewhere = stored.numerics != again.numerics
    if not elsewhere or not same_data or tolerance is None:
        return "different"
    near = abs(stored.score - again.score) <= tolerance.points
    agreed = tolerance.agreement is None or agreement is None or agreement >= tolerance.agreement
    return "within tolerance" if near and agreed else "different"


def _agreement(one: RunRecord, two: RunRecord) -> float | None:
    """Share of the scored images, in percent, for which two runs say the same class."""
    if one.predictions is None or two.predictions is None:
        return None
    first, second = one.predictions.predicted, two.predictions.predicted
    return 100 * float((first == second).mean()) if len(first) == len(second) else None


def _cell(record: RunRecord) -> dict[str, Any]:
    """Everything but the seed, and the images."""
    return {**record.canonical, "seed": None, "data": record.data_fingerprint, "split": record.split_fingerprint}


def _changes(stored: RunRecord, again: RunRecord) -> list[str]:
    now = environment()
    changes = [
        f"numerics: {name} was {stored.numerics.get(name)}, is {again.numerics.get(name)}"
        for name in stored.numerics | again.numerics
        if stored.numerics.get(name) != again.numerics.get(name)
    ]
    if stored.id != again.id:
        changes.append(
            f"run: its name was {stored.id}, is {again.id}: a card, or code of your own, is another one here"
        )
    for name in ("data_fingerprint", "split_fingerprint"):
        if getattr(stored, name) != getattr(again, name):
            changes.append(f"data: {name} was {getattr(stored, name)}, is {getattr(again, name)}")
    if stored.environment.get("code") != now["code"]:
        changes.append(f"code: digest was {stored.environment.get('code')}, is {now['code']}")
    for name in ("python", "packages", "platform", "cpu"):
        if stored.environment.get(name) != now[name]:
            changes.append(f"environment: {name} was {stored.environment.get(name)}, is {now[name]}")
    return changes
