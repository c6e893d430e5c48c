"""How a study is analysed, and what its design can say: declared before the runs."""

from dataclasses import dataclass
from typing import Literal

from attnbench.analysis.power import able, fewest_seeds
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.sequential import Spending, nominal_level
from attnbench.analysis.stats import ALPHA
from attnbench.spec.study import Study

Failures = Literal["worst", "drop"]
LookPlan = tuple[int, ...] | Literal["any"] | None


@dataclass(frozen=True)
class Plan:
    """How the analysis is done, declared before the runs."""

    baseline: str = "none"
    """The arm that every other is compared with."""
    margin: float = 1.0
    """Equivalence margin in the unit of the scores, for accuracies percentage points."""
    pairing: Pairing = "independent"
    """Whether equal seeds are pairs."""
    looks: LookPlan = None
    """At how many seeds an arm there are verdicts; `any`: after each; None: once, at all that are planned."""
    failures: Failures = "worst"
    """What a failed run scores: chance level, or nothing, it is left out."""
    tuned: tuple[str, ...] = ()
    """Fields of a run in which each arm has values of its own."""

    @property
    def matched(self) -> bool:
        """Whether two arms are compared at the seeds that both have."""
        return self.pairing == "paired" or self.looks == "any"

    @classmethod
    def of(cls, study: Study) -> "Plan":
        """What a study's file declares."""
        looks = tuple(study.looks) if isinstance(study.looks, list) else study.looks
        return cls(study.baseline, study.margin, study.pairing, looks, study.failures, tuple(study.tuned))


@dataclass(frozen=True)
class Design:
    """How many seeds an arm, and how many comparisons share the 5 % error, in some cells of a study."""

    seeds: int
    family: int
    margin: float
    pairing: Pairing
    looks: LookPlan = None

    @property
    def spending(self) -> Spending | None:
        """How the looks at which it can decide share the error; None where every run is a look."""
        if self.looks == "any":
            return None
        return Spending.open([self.seeds]) if self.looks is None else able(self.looks, self.family, self.pairing)

    @property
    def level(self) -> float:
        """What its last look's own tests may err, all comparisons of the family together."""
        known = self.spending
        return ALPHA if known is None else self.family * nominal_level(known.seeds, known.parts, ALPHA / self.family, 2)

    @property
    def needed(self) -> int | None:
        """Where no outcome could be *better* or *worse*: the fewest seeds an arm at which one could."""
        return fewest_seeds(self.spending, self.family, self.pairing)
