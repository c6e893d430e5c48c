"""A study file: a grid of runs, the baseline, and how the analysis is done; every mistake is named at once."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Gt, Lt

from attnbench.errors import BadStudy, writing
from attnbench.files import replacing
from attnbench.spec.arm import ArmKey, cell_key, shared
from attnbench.spec.combinations import combinations
from attnbench.spec.mistakes import Mistake, study_mistakes
from attnbench.spec.run import RunSpec, canonical
from attnbench.spec.yaml import dotted, load


@dataclass(frozen=True, kw_only=True)
class Study:
    """A product of run fields, times seeds; a value like a run, whose mistakes raise BadStudy."""

    name: str
    """What the study is called."""
    recipe: str = "classic"
    """The preset that every cell starts from."""
    base: dict[str, Any] = field(default_factory=dict)
    """Run fields that all cells share."""
    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Run fields that vary, each with its values; the product is taken."""
    where: list[dict[Literal["if", "set"], dict[str, Any]]] = field(default_factory=list)
    """Overrides for the cells that match."""
    seeds: int | list[int] | None = None
    """How many repetitions (0, 1, ...), or which seeds; left out: as many as the last look, or 1."""
    baseline: str = "none"
    """The arm that every other is compared with."""
    margin: Annotated[float, Gt(0), Lt(float("inf"))] = 1.0
    """Equivalence margin in percentage points."""
    pairing: Literal["independent", "paired"] = "independent"
    """How the analysis treats equal seeds, declared beforehand."""
    looks: list[int] | Literal["any"] | None = None
    """At how many seeds an arm there are verdicts (5, 8, 12, ...), or `any`: after each; left out: at the last seed."""
    failures: Literal["worst", "drop"] = "worst"
    """What a failed run scores, declared beforehand. worst: chance level; drop: nothing, it is left out."""
    tuned: list[str] = field(default_factory=list)
    """Run fields that were tuned for each arm by itself (lr, ...): arms are compared across their values."""
    numerics: Literal["native", "portable"] = "native"
    """portable: the same bits on every CPU with AVX2, but slower, and never on a GPU; native: each machine's own."""

    def __post_init__(self) -> None:
        found = study_mistakes(type(self), vars(self), self.more_mistakes)
        if found:
            raise BadStudy(f"{self.name}: {mistake}" for mistake in found)

    @classmethod
    def load(cls, file: str | Path) -> Self:
        """Read a study file; a class that has more keys than a study reads its own kind of file.

        Raises:
            BadStudy: one line for each mistake, with its line in the file.
        """
        marked = load(Path(file), [each.name for each in fields(cls)])
        values, wrong = cls.written_out(marked.values), {place for place, _, _ in marked.wrong}
        found = [
            mistake
            for mistake in study_mistakes(cls, values, cls.more_mistakes)
            if (mistake.at or mistake.place) not in wrong
        ]
        if found or marked.wrong:
            lines = [(line, f"{dotted(place)}: {what}") for place, line, what in marked.wrong]
            lines += [(marked.line(mistake.at or mistake.place), str(mistake)) for mistake in found]
            raise BadStudy(f"{file}:{line}: {what}" for line, what in sorted(lines, key=lambda pair: pair[0]))
        return cls(**values)

    @classmethod
    def written_out(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The file's values with what stands for several of them written out; here nothing does."""
        return values

    @classmethod
    def more_mistakes(cls, values: dict[str, Any]) -> list[Mistake]:
        """What is wrong with the keys that a class has beside a study's; `values` are of the right types."""
        return []

    def runs(self) -> list[RunSpec]:
        """All runs, seeds varying slowest, so that an interrupted study is balanced."""
        found = [cell for cell, _ in combinations(vars(self))]
        specs = [RunSpec(**cell, seed=seed) for seed in self.seed_list for cell in found]
        return list({spec.id: spec for spec in specs}.values())

    def save(self, file: Path) -> Path:
        """Write it as a study file; returns the file.

        Raises:
            StoreProblem: it cannot be written.
        """
        import yaml

        said = {each.name: getattr(self, each.name) for each in fields(self)}
        with writing(file), replacing(file) as out:
            yaml.safe_dump({name: value for name, value in said.items() if value}, out, sort_keys=False, width=120)
        return file

    def cells(self) -> dict[str, dict[ArmKey, list[RunSpec]]]:
        """The runs by cell (as files name it) and by arm, in the order of the seeds."""
        found: dict[str, dict[ArmKey, list[RunSpec]]] = {}
        for spec in self.runs():
            form = canonical(spec)
            found.setdefault(cell_key(shared(form, self.tuned)), {}).setdefault(ArmKey.of(form), []).append(spec)
        return found

    @property
    def seed_list(self) -> list[int]:
        """The seeds."""
        seeds = self.seeds or (self.looks[-1] if isinstance(self.looks, list) else 1)
        return list(range(seeds)) if isinstance(seeds, int) else list(seeds)

    @property
    def slug(self) -> str:
        """The name as the name of a folder."""
        return slug(self.name)


def slug(name: str) -> str:
    """A name as the name of a file."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "study"
