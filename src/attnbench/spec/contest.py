"""A file for `attnbench choose`: a study of many mechanisms, of which the best is sought under a budget."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import TypedDict

from attnbench.catalogue.registry import ATTENTION
from attnbench.errors import AttnbenchError, BadReference
from attnbench.spec.arm import FIELDS
from attnbench.spec.combinations import combinations, given_at
from attnbench.spec.mistakes import Mistake
from attnbench.spec.run import RunSpec, mistakes
from attnbench.spec.study import Study

FRESH = 1_000
"""The first seed of a confirmation: screening has those below it."""
KINDS = ("D", "R", "S")
_WHOLE: dict[str, Any] = {"stages": None, "every": None, "init": "own"}
Limit = Literal["latency", "training", "parameters", "macs", "memory"]


class Budget(TypedDict, total=False):
    """What may be spent on training, screening and confirmation together: one of the two."""

    cpu_hours: Annotated[float, Gt(0), Lt(float("inf"))]
    """Hours of CPU time (of a GPU's time on a GPU)."""
    runs: Annotated[int, Ge(1)]
    """Runs, however long each is."""


class Screening(TypedDict, total=False):
    """How mechanisms are screened; what is left out has a default."""

    epochs: Annotated[int, Ge(1)]
    """Epochs of the first rung; a third of the study's."""
    seeds: Annotated[int, Ge(1)]
    """Seeds of the first rung; 1."""
    eta: Annotated[float, Gt(1), Le(100)]
    """About one mechanism in so many goes on from rung to rung, to be trained so many times as much; 3."""
    train_fraction: Annotated[float, Gt(0), Le(1)]
    """Share of the training images that is used; the study's."""
    val_fraction: Annotated[float, Gt(0), Lt(1)]
    """Share of the training images that is set apart to score on; a fifth where there is no validation split."""


@dataclass(frozen=True)
class Rung:
    """One round of screening: every mechanism in it is trained with the same seeds for the same number of epochs."""

    arms: int
    """Mechanisms in it, besides the baseline, which is in every rung."""
    epochs: int
    seeds: int
    """Seeds an arm, from 0 on."""
    new: int
    """Those of them that no earlier rung of as many epochs has trained."""
    kept: int
    """Mechanisms that go on from it."""


@dataclass(frozen=True, kw_only=True)
class Contest(Study):
    """A study of one setting and many mechanisms, of which screening on validation images leaves a few to confirm."""

    budget: Budget
    """What may be spent: `cpu_hours`, or `runs`."""
    limits: dict[Limit, Annotated[float, Gt(0), Lt(float("inf"))]] = field(default_factory=dict)
    """The most that a mechanism may cost, as a ratio to the baseline, measured before anything is trained."""
    confirm: Annotated[int, Ge(1)] = 3
    """Mechanisms that are confirmed on the test split, with fresh seeds, beside the baseline."""
    screening: Screening = field(default_factory=Screening)
    """How mechanisms are screened on validation images."""

    @classmethod
    def written_out(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`all`, and `kind: D`, as the catalogue's mechanisms; and the baseline, which is always among the arms."""
        grid = values.get("grid")
        listed = _listed(grid.get("attention")) if isinstance(grid, dict) else None
        if not isinstance(grid, dict) or listed is None:
            return values
        baseline, texts = values.get("baseline", "none"), [text for text in listed if isinstance(text, str)]
        if isinstance(baseline, str) and not {_spelled(baseline)} & set(map(_spelled, texts)):
            listed = [*listed, baseline]
        return {**values, "grid": {**grid, "attention": listed}}

    @classmethod
    def more_mistakes(cls, values: dict[str, Any]) -> list[Mistake]:
        """What a contest cannot be, where its values are of the right types."""
        return [
            *_setting_mistakes(values),
            *_evaluate_mistakes(values),
            *_budget_mistakes(values),
            *_seed_mistakes(values),
        ]

    @property
    def arms(self) -> list[str]:
        """The mechanisms among which is chosen, each in its first spelling in the file, without the baseline."""
        first: dict[str, str] = {}
        for text in self.grid["attention"]:
            first.setdefault(_spelled(text), text)
        return [text for spelled, text in first.items() if spelled != _spelled(self.baseline)]

    @property
    def baseline_text(self) -> str:
        """The baseline, as the list of mechanisms spells it."""
        texts: list[str] = self.grid["attention"]
        return next(text for text in texts if _spelled(text) == _spelled(self.baseline))

    def rungs(self, arms: int) -> list[Rung]:
        """The rounds of successive halving (Jamieson and Talwalkar 2016) that leave `confirm` of so many mechanisms.

        From rung to rung about one in eta goes on, to be trained eta times as much: for more epochs until they are the
        study's, and from then on with more seeds. No rung where no more than `confirm` are left to begin with.
        """
        if arms <= self.confirm:
            return []
        eta, full = self.screening.get("eta", 3), self.full_run(self.baseline_text).epochs
        first, seeds = self.screening.get("epochs", max(1, full // 3)), self.screening.get("seeds", 1)
        count = max(1, round(math.log(arms / self.confirm) / math.log(eta)))
        sizes = [round(arms * (self.confirm / arms) ** (rung / count)) for rung in range(count + 1)]
        found: list[Rung] = []
        for rung, (size, kept) in enumerate(itertools.pairwise(sizes)):
            epochs = max(first, min(full, round(first * eta**rung)))
            growth = max(1, round(first * eta**rung / epochs))
            there = max((one.seeds for one in found if one.epochs == epochs), default=0)
            found.append(Rung(size, epochs, seeds * growth, seeds * growth - there, kept))
        return found

    def screening_run(self, attention: str, rung: Rung, seed: int) -> RunSpec:
        """A mechanism's run of a rung: the study's with fewer epochs and images, and scored on validation images."""
        changed: dict[str, Any] = {"epochs": rung.epochs, "val_fraction": self._val_fraction()}
        changed |= {"evaluate": "val", "seed": seed}
        if "train_fraction" in self.screening:
            changed["train_fraction"] = self.screening["train_fraction"]
        return RunSpec(**{**self._cell(attention), **changed})

    def confirmation(self, arms: Sequence[str], looks: Sequence[int]) -> Study:
        """An ordinary study of some mechanisms and the baseline, with seeds that screening has not seen."""
        own = {name: value for name, value in vars(self).items() if name in Study.__dataclass_fields__}
        own |= {"name": f"{self.name}-confirmation", "grid": {"attention": [self.baseline_text, *arms]}}
        matched: set[int] = set()
        for _ in combinations(own, matched):
            pass
        where = [self.where[number] for number in sorted(matched)]  # without those of arms that are out by now
        return replace(Study(**own), where=where, seeds=list(range(FRESH, FRESH + looks[-1])), looks=list(looks))

    @property
    def amount(self) -> float:
        """The budget, in its unit."""
        return float(self.budget.get("cpu_hours") or self.budget["runs"])

    @property
    def unit(self) -> str:
        """What the budget is counted in."""
        return "CPU-hours" if "cpu_hours" in self.budget else "runs"

    def full_run(self, attention: str, seed: int = FRESH) -> RunSpec:
        """A mechanism's run as the study asks for it: that of the confirmation."""
        return RunSpec(**self._cell(attention), seed=seed)

    def _cell(self, attention: str) -> dict[str, Any]:
        return next(cell for cell, _ in combinations(vars(self)) if cell["attention"] == attention)

    def _val_fraction(self) -> float:
        """The share of the training images that screening scores on; 0 for the data set's own validation split."""
        given, full = self.screening.get("val_fraction"), self.full_run(self.baseline_text)
        own = "val" in full.resolved.dataset.card.splits
        return given or full.val_fraction or (0.0 if own else 0.2)


def _listed(asked: object) -> list[Any] | None:
    """The mechanisms that `grid.attention` stands for; None where it is nothing of the kind."""
    if isinstance(asked, list):
        return asked
    kind = asked.get("kind") if isinstance(asked, dict) and len(asked) == 1 else None
    if asked != "all" and kind not in KINDS:
        return None
    real = [entry for entry in ATTENTION if entry.builtin and not entry.card.control]
    return [entry.name for entry in real if kind in (None, entry.card.kind)]


def _spelled(text: str) -> str:
    """The one spelling of a mechanism; a text that is none, which has its own line, as it is."""
    try:
        return ATTENTION.canonical(text)
    except BadReference:
        return text


def _setting_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """A choice is made in one setting, in which arms differ in their mechanism and its place only."""
    grid, found = values.get("grid", {}), []
    for name in grid:
        if name != "attention":
            what = f"choose compares mechanisms in one setting; give one {name} under base"
            found.append(Mistake(("grid", name), what))
    if "attention" not in grid:
        return [*found, Mistake(("grid",), "choose needs grid.attention: a list of mechanisms, all, or kind: D")]
    if found:
        return found
    if given := [at for at in given_at("attention", values) if at[0] == "where"]:
        return [Mistake(at, "a rule that changes the mechanism makes one arm another; list that one") for at in given]
    listed = [cell for cell, _ in combinations(values)]
    apart = [name for name in listed[0] if name not in FIELDS and any(cell[name] != listed[0][name] for cell in listed)]
    for number, rule in enumerate(values.get("where", [])):
        for name in apart:
            if name in rule.get("set", {}):
                found.append(Mistake(("where", number, "set", name), "arms may differ in mechanism and place only"))
    if len(listed) < 2:
        found.append(Mistake(("grid", "attention"), "nothing to choose from: no mechanism besides the baseline"))
    return [*found, *_limit_mistakes(values, listed), *_screening_mistakes(values, listed[0])]


def _limit_mistakes(values: dict[str, Any], listed: list[dict[str, Any]]) -> list[Mistake]:
    """Limits are measured on one network, which arms differ from in their mechanism only."""
    if "limits" not in values or all({**cell, **_WHOLE, "site": listed[0]["site"]} == cell for cell in listed):
        return []
    said = "limits are measured at every place of one site, with each mechanism's own init; leave out"
    return [Mistake(("limits",), f"{said} stages, every, init and a site that not all arms share")]


def _screening_mistakes(values: dict[str, Any], cell: dict[str, Any]) -> list[Mistake]:
    """Screening is no longer than what is confirmed, of which `cell` is a run, and its runs can be."""
    asked = values.get("screening", {}).get("epochs")
    try:
        full = RunSpec(**cell).epochs
    except (AttnbenchError, TypeError):
        return []  # those have their own line
    first = asked or max(1, full // 3)
    if first > full:
        return [Mistake(("screening", "epochs"), f"{first} are more than the study's {full} epochs")]
    wrong = mistakes({**cell, "epochs": first})
    said = f"a first rung of {first} epochs{'' if asked else ', a third of the study,'} cannot be"
    return [Mistake(("screening",), f"{said}: {name}: {what}") for name, what in wrong.items()]


def _evaluate_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """Screening has validation images and confirmation test images, whatever a run says."""
    what = "screening is scored on validation images and confirmation on test images; leave it out"
    return [Mistake(place, what) for place in given_at("evaluate", values)]


def _budget_mistakes(values: dict[str, Any]) -> list[Mistake]:
    given = values.get("budget")
    if given is None:
        return []
    if len(given) == 1:
        return []
    return [Mistake(("budget",), "give one of cpu_hours and runs, as in {cpu_hours: 3}")]


def _seed_mistakes(values: dict[str, Any]) -> list[Mistake]:
    found = []
    if values.get("seeds") is not None:
        found.append(Mistake(("seeds",), "choose draws its seeds by itself; give looks for those of the confirmation"))
    if values.get("looks") == "any":
        found.append(Mistake(("looks",), "choose needs a list of numbers of seeds, or none"))
    return found
