"""A search for each arm's recipe: as many trials for each, from the same space, on validation images only.

The runs are the truth: what a trial tries is a function of the file and of the scores before it, so that a search goes
on after any interruption as if there had been none. Optuna draws the points and keeps the trials in its journal.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.analysis.recorded import chance
from attnbench.analysis.tuning import Trial, Tuned
from attnbench.console import first_line, listed, say
from attnbench.errors import AttnbenchError, Failed
from attnbench.execution.executors import Execution
from attnbench.execution.sweep import Failure, Sweep, execute
from attnbench.seeding import stream
from attnbench.spec.arm import ArmKey
from attnbench.spec.combinations import combinations
from attnbench.spec.run import RunSpec, Runtime, canonical
from attnbench.spec.search import Point, Search
from attnbench.store.runs import Store

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

FOLDER = ".optuna"
"""Where in a store the journals of searches lie; optuna-dashboard shows them."""


@dataclass(frozen=True)
class _Arm:
    """One arm in one cell, with its trials so far."""

    cell: dict[str, Any]
    picked: Point
    done: list[Trial]


def tune(
    search: Search,
    runtime: Runtime,
    how: Execution | None = None,
    failed: Callable[[Sequence[Failure], Sweep], None] = lambda failures, sweep: None,
) -> list[Tuned]:
    """Make the trials that are left, and keep all of them in Optuna's journal; returns what each arm's gave.

    Args:
        failed: is told of the trials that failed, as soon as those beside them are done.

    Raises:
        Failed: a trial could not be made at all, or every trial of an arm failed.
        AttnbenchError: Optuna is not installed.
    """
    store = Store(runtime.store)
    arms = [_Arm(cell, picked, []) for picked, cell in search.settings()]
    while len(arms[0].done) < search.trials:
        asked = [_ask(search, arm) for arm in arms]
        specs = {spec.id: spec for one_of_each in zip(*asked, strict=True) for _, spec in one_of_each}
        left = [spec for run, spec in specs.items() if not store.failed(run)]
        sweep = Sweep(left, runtime, search.recipe, f"{search.name} search")
        failures = execute(sweep, how)
        failed(failures, sweep)
        if stale := sum(store.done(each.spec.id) for each in failures):  # by records of other images
            raise Failed(f"{stale} trials could not be made again; the same command goes on")
        for arm, each in zip(arms, asked, strict=True):
            arm.done.extend(_trials(store, each, len(arm.done)))
        _keep(search, store, arms)
    if lost := [f"{_title(arm)}: {_label(arm)}" for arm in arms if all(trial.failed for trial in arm.done)]:
        raise Failed(f"every trial failed of {listed(lost)}: the space has no recipe for it")
    return [Tuned(_title(arm), _label(arm), arm.picked, arm.done) for arm in arms]


def planned(search: Search) -> list[RunSpec]:
    """The runs of all trials, as far as they are known: points that depend on scores are drawn at random."""
    given, cells = points(search, [], search.trials), [cell for _, cell in search.settings()]
    return [search.trial(cell, number, point) for number, point in enumerate(given) for cell in cells]


def points(search: Search, before: Sequence[Trial], count: int) -> list[Point]:
    """The points of the `count` trials that follow those `before`; random ones do not depend on them.

    Raises:
        AttnbenchError: Optuna is not installed.
    """
    optuna = _optuna()
    space = _distributions(search)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(direction="maximize", sampler=_sampler(search, len(before)))
        if search.sampler == "tpe":
            study.add_trials([_frozen(space, trial) for trial in before])
            return [study.ask(space).params for _ in range(count)]
        return [study.ask(space).params for _ in range(len(before) + count)][len(before) :]


def _ask(search: Search, arm: _Arm) -> list[tuple[Point, RunSpec]]:
    """The next trials of an arm: all that are left, or one where it depends on those before."""
    first = len(arm.done)
    count = 1 if search.sampler == "tpe" else search.trials - first
    given = points(search, arm.done, count)
    return [(point, search.trial(arm.cell, first + place, point)) for place, point in enumerate(given)]


def _trials(store: Store, asked: Sequence[tuple[Point, RunSpec]], first: int) -> Iterator[Trial]:
    records = [store.record(spec.id) for _, spec in asked]
    known = [record for record in records if record is not None]
    if len(known) < len(records):
        missing = len(records) - len(known)
        raise Failed(f"{missing} of {len(records)} trials could not be made; the same command goes on")
    for place, ((point, spec), record) in enumerate(zip(asked, known, strict=True)):
        score = record.score if record.done else chance(record)
        yield Trial(first + place, point, score, spec.id, not record.done)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise AttnbenchError("attnbench tune needs Optuna: pip install 'attnbench[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _distributions(search: Search) -> "dict[str, BaseDistribution]":
    """The space as Optuna has it; whole numbers where a run's field takes no others."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    cell, _ = next(combinations(vars(search)))
    for name, span in search.space.items():
        if "choices" in span:
            found[name] = CategoricalDistribution(span["choices"])
            continue
        whole = isinstance(cell[name], int)
        kind = IntDistribution if whole else FloatDistribution
        found[name] = kind(span["low"], span["high"], log=span.get("log", False))
    return found


def _sampler(search: Search, number: int) -> "BaseSampler":
    """The source of points, the same for every arm; that of later trials by scores draws anew for each."""
    from optuna.samplers import QMCSampler, RandomSampler, TPESampler

    seed = stream(0, "search", search.sampler) % 2**32
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    if search.sampler == "qmc":
        return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    return TPESampler(seed=stream(0, "search", "tpe", number) % 2**32)


def _frozen(space: "dict[str, BaseDistribution]", trial: Trial) -> Any:
    from optuna.trial import create_trial

    about = {"trial": trial.number, "run": trial.run, "failed": trial.failed}
    return create_trial(params=trial.point, distributions=space, value=trial.score, user_attrs=about)


def _keep(search: Search, store: Store, arms: Sequence[_Arm]) -> None:
    """Add to Optuna's journal what it does not have; where it cannot be read or written, that is said, and no more."""
    file = store.path / FOLDER / f"{search.slug}.journal"
    try:
        _add(search, file, arms)
    except OSError as problem:
        say(f"{file} cannot be written ({problem.strerror or problem}); the trials are in the runs")
    except (ValueError, LookupError, TypeError) as problem:
        say(f"{file} cannot be read ({first_line(problem)}); the trials are in the runs: delete it for a new one")


def _add(search: Search, file: Path, arms: Sequence[_Arm]) -> None:
    from filelock import FileLock
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna, space = _optuna(), _distributions(search)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.ours"):
        storage = JournalStorage(JournalFileBackend(str(file)))
        known = optuna.get_all_study_names(storage)
        for arm in arms:
            name = _name(search, arm)
            if name not in known:
                optuna.create_study(storage=storage, study_name=name, direction="maximize")
                known.append(name)
            study = optuna.load_study(storage=storage, study_name=name)
            there = {trial.user_attrs["trial"] for trial in study.trials}
            study.add_trials([_frozen(space, trial) for trial in arm.done if trial.number not in there])


def _name(search: Search, arm: _Arm) -> str:
    """What the trials of an arm are called in the journal: another space or recipe is another search."""
    about = json.dumps([search.trial(arm.cell, 0, {}).id, search.sampler, search.space])
    return f"{search.name}: {_title(arm)}, {_label(arm)} ({sha256(about.encode()).hexdigest()[:8]})"


def _title(arm: _Arm) -> str:
    spec = RunSpec(**arm.cell)
    return f"{spec.resolved.dataset}, {spec.resolved.backbone}"


def _label(arm: _Arm) -> str:
    spec = RunSpec(**arm.cell)
    return ArmKey.of(canonical(spec)).label(spec.resolved.attention.placed.site)
