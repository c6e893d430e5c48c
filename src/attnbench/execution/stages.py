"""A study from look to look: train what is open, give verdicts, and train no further what they decide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attnbench.analysis.comparison import Comparison, Place, compare, needed
from attnbench.analysis.power import able
from attnbench.errors import BadStudy
from attnbench.execution.executors import Execution
from attnbench.execution.sweep import Failure, Sweep, execute
from attnbench.spec.study import Study


@dataclass(frozen=True)
class Stage:
    """What is known when the runs up to a look are done."""

    seeds: int
    """How many an arm has that is open."""
    comparison: Comparison
    decided: frozenset[Place]
    """The arms that this look and those before it decided."""
    reached: bool
    """Whether each of these runs is done or has failed."""
    last: bool
    """Whether nothing more is trained."""
    failures: Sequence[Failure] = ()
    """Runs that failed in this stage."""


def until_decided(study: Study, sweep: Sweep, how: Execution | None = None) -> Iterator[Stage]:
    """Train to each look of a study in turn, without the arms that are decided; all it goes by is on disk.

    A run that failed is a result and is not tried again. Where one could not even fail, as when its process was
    killed, the look is not reached, and the stage is the last.

    Args:
        sweep: all runs of the study.
        how: where they are trained, and how many at a time.
    """
    sizes, decided = look_sizes(study), frozenset[Place]()
    for size in sizes:
        specs = needed(study, decided, size)
        new = [spec for spec in specs if not sweep.store.failed(spec.id)]
        failures = execute(replace(sweep, specs=new), how)
        found = compare(study, sweep.store)
        decided = frozenset(place for place in found.decided if len(found.places[place].seeds) <= size)
        stale = any(sweep.store.done(each.spec.id) for each in failures)  # by a record of other images
        reached = not stale and all(sweep.store.record(spec.id) for spec in specs)
        last = not reached or size == sizes[-1] or not needed(study, decided)
        yield Stage(size, found, decided, reached, last, failures)
        if last:
            return


def check_looks(study: Study, file: Path, asked: bool) -> None:
    """Refuse to train from look to look where that is `asked` for and there is none.

    Raises:
        BadStudy: the study has no looks.
    """
    if asked and study.looks is None:
        raise BadStudy([f"{file}: --until-decided needs the key 'looks', such as looks: [5, 8, 12, 20], or any"])


def look_sizes(study: Study) -> list[int]:
    """At how many seeds an arm a study has its looks: those at which the family of some cell can decide."""
    if study.looks == "any":
        return list(range(2, len(study.seed_list) + 1))
    looks, families = study.looks or [len(study.seed_list)], {len(arms) - 1 for arms in study.cells().values()}
    return sorted({size for family in families for size in able(looks, family, study.pairing).seeds})
