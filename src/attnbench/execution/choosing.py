"""`attnbench choose` at work: what is known before the first run, screening, and the looks that are left to confirm.

Everything that is decided follows from the file that is written before the first run and from the records of runs, so
that a choice that was killed anywhere goes on to the same answer.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.analysis.budget import Outline, Price, looks_within, outlined
from attnbench.analysis.choosing import Round, halved
from attnbench.errors import AttnbenchError, Failed, StoreProblem, writing
from attnbench.execution.executors import Execution
from attnbench.execution.sweep import Failure, Sweep, execute, expected_seconds, seconds_taken
from attnbench.files import replacing
from attnbench.spec.contest import Contest, Rung
from attnbench.spec.run import RunSpec, Runtime
from attnbench.spec.study import Study
from attnbench.store.runs import RunRecord, Store


class Unfinished(Failed):
    """For a choice some of whose runs could not be done."""

    def __init__(self, failures: Sequence[Failure], words: Sequence[str]) -> None:
        lines = [f"failed: {each}: {failure.reason}" for failure, each in zip(failures, words, strict=True)]
        super().__init__("\n".join([*lines, "the same command goes on from here"]))
        self.trace = "\n".join(dict.fromkeys(failure.trace for failure in failures if failure.trace))


@dataclass(frozen=True)
class Before:
    """What is known before the first run; written down then, so that nothing is decided twice."""

    arms: tuple[str, ...]
    """The mechanisms within the limits."""
    out: Mapping[str, str]
    """Each other mechanism -> why it is left out."""
    ratios: Mapping[str, Mapping[str, float]]
    """Mechanism -> what it costs, as ratios to the baseline."""
    seconds: Mapping[str, Mapping[str, float]]
    """Arm and baseline -> run, by its epochs and `full` -> its expected seconds; empty where runs are counted."""

    def price(self, contest: Contest) -> Price:
        """What a run of an arm is expected to cost in the unit of the budget."""

        def of(arm: str, rung: Rung | None) -> float:
            return self.seconds[arm][_run_name(rung)] / 3600 if contest.unit == "CPU-hours" else 1.0

        return of

    def outline(self, contest: Contest) -> Outline:
        """What the budget pays for."""
        return outlined(contest, self.arms, self.price(contest))


def before_file(contest: Contest, store: Store) -> Path:
    """Where it is written."""
    return store.path / "studies" / f"{contest.slug}-before.json"


def recalled(contest: Contest, store: Store) -> Before | None:
    """What was written down before the first run of this very contest; None where nothing was.

    Raises:
        StoreProblem: the file cannot be read.
    """
    file = before_file(contest, store)
    try:
        found = json.loads(file.read_text())
        told = Before(tuple(found["arms"]), found["out"], found["ratios"], found["seconds"])
        return told if found["contest"] == _digest(contest) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise StoreProblem(f"{file} cannot be read ({problem!r}); delete it to measure again") from None


def keep(contest: Contest, store: Store, before: Before) -> None:
    """Write it down, in one step."""
    file = before_file(contest, store)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as out:
            out.write(json.dumps({"contest": _digest(contest), **dataclasses.asdict(before)}, indent=1) + "\n")


def expected(contest: Contest, arms: Sequence[str], runtime: Runtime) -> dict[str, dict[str, float]]:
    """Seconds that each arm's run of each rung takes, and at full length; nothing where the budget counts runs.

    Raises:
        AttnbenchError: the number of images is not known.
    """
    if contest.unit == "runs":
        return {}
    names = {
        (arm, _run_name(rung)): _spec(contest, arm, rung)
        for arm in [contest.baseline_text, *arms]
        for rung in [*contest.rungs(len(arms)), None]
    }
    seconds = expected_seconds(list(names.values()), runtime)
    found: dict[str, dict[str, float]] = {}
    for (arm, name), taken in zip(names, seconds, strict=True):
        if taken is None:
            raise AttnbenchError(
                "a budget in hours needs the data to be there: their number of images is not known yet"
            )
        found.setdefault(arm, {})[name] = taken
    return found


def screened(contest: Contest, arms: Sequence[str], runtime: Runtime, how: Execution | None = None) -> list[Round]:
    """Screen by successive halving on validation images; runs that are done are not repeated.

    A run that failed by itself (its loss was not finite, its mechanism broke) is a result and is not tried again.

    Raises:
        Unfinished: a run could not be done.
    """
    store = Store(runtime.store)

    def score(rung: Rung, left: Sequence[str]) -> dict[str, list[float]]:
        specs = {arm: [contest.screening_run(arm, rung, seed) for seed in range(rung.seeds)] for arm in left}
        by_seed = [specs[arm][seed] for seed in range(rung.seeds) for arm in left]
        trained(Sweep(by_seed, runtime, contest.recipe, contest.name), how)
        return {arm: [_score(store.record(spec.id)) for spec in own] for arm, own in specs.items()}

    return halved(arms, contest.baseline_text, contest.rungs(len(arms)), score)


def trained(sweep: Sweep, how: Execution | None) -> None:
    """Do the runs of a sweep that have no record yet, neither done nor failed.

    Raises:
        Unfinished: a run left no record, or has one of other images only.
    """
    new = dataclasses.replace(sweep, specs=[spec for spec in sweep.specs if not sweep.store.failed(spec.id)])
    failures = [each for each in execute(new, how) if not sweep.store.failed(each.spec.id)]
    if failures:
        raise Unfinished(failures, [sweep.describe(each.spec) for each in failures])


def confirmation_looks(contest: Contest, before: Before, rounds: Sequence[Round], store: Store) -> tuple[int, ...]:
    """The looks that the budget pays for after screening, by what its runs took beside what was expected of them.

    Raises:
        BudgetTooSmall: screening took so long that nothing is left to decide with.
    """
    price, kept = before.price(contest), rounds[-1].kept if rounds else before.arms
    prices = {run.id: price(arm, rung) for arm, rung, run in _screening(contest, rounds)}
    done = {run for run in prices if (record := store.record(run)) is not None and record.done}
    taken, expected_cost = _taken(contest, screening_runs(contest, rounds), store), sum(prices[run] for run in done)
    factor = taken / expected_cost if contest.unit == "CPU-hours" and taken and expected_cost else 1.0
    if contest.unit == "CPU-hours":  # records of failed runs do not say what they took
        taken += factor * sum(prices[run] for run in prices.keys() - done)
    one = factor * sum(price(arm, None) for arm in [contest.baseline_text, *kept])
    return looks_within(contest, len(kept), taken, one)


def screening_runs(contest: Contest, rounds: Sequence[Round]) -> list[RunSpec]:
    """Every run of screening."""
    return list({run.id: run for _, _, run in _screening(contest, rounds)}.values())


def _screening(contest: Contest, rounds: Sequence[Round]) -> Iterator[tuple[str, Rung, RunSpec]]:
    """Each run of screening with its arm and its rung; a rung repeats those of one with as many epochs."""
    for each in rounds:
        for arm in each.scores:
            for seed in range(each.rung.seeds):
                yield arm, each.rung, contest.screening_run(arm, each.rung, seed)


def spent(contest: Contest, study: Study, rounds: Sequence[Round], store: Store) -> tuple[float, float]:
    """What screening and confirmation took, in the unit of the budget."""
    first, second = screening_runs(contest, rounds), study.runs()
    return _taken(contest, first, store), _taken(contest, second, store)


def _taken(contest: Contest, specs: Sequence[RunSpec], store: Store) -> float:
    records = [record for spec in specs if (record := store.record(spec.id)) is not None]
    if contest.unit == "runs":
        return float(len(records))
    return sum(seconds_taken(record) for record in records if record.done) / 3600


def _score(record: RunRecord | None) -> float:
    """Accuracy on validation images in percent; nan of a run that failed."""
    assert record is not None
    return record.score if record.done else math.nan


def _spec(contest: Contest, arm: str, rung: Rung | None) -> RunSpec:
    return contest.full_run(arm) if rung is None else contest.screening_run(arm, rung, 0)


def _run_name(rung: Rung | None) -> str:
    return "full" if rung is None else str(rung.epochs)


def _digest(contest: Contest) -> str:
    """Of everything that the file says, but what it is called."""
    said = {name: value for name, value in vars(contest).items() if name != "name"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
