"""Scores of runs that were made elsewhere to a comparison: the same cells, tests and verdicts as for runs of ours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attnbench.analysis.cells import Cell, cell_of, cell_warnings
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.measure import Measure
from attnbench.analysis.plan import Failures, Plan
from attnbench.analysis.resampling import Pairing
from attnbench.analysis.sample import Sample
from attnbench.catalogue.refs import nearest
from attnbench.errors import BadScores
from attnbench.store.scores import MOST_TOLD, Score, Table, read

BASELINES = ("none", "baseline")
"""Names of an arm that is the baseline where none is asked for."""
PERCENT = ("%", "percent", "pct")
SHARE_MARGIN = 0.01
"""The margin where scores are shares of 1: the one percentage point that it is elsewhere."""


@dataclass(frozen=True)
class Terms:
    """What is declared of scores before they are looked at; None where it is left to their table."""

    baseline: str | None = None
    margin: float | None = None
    pairing: Pairing = "independent"
    failures: Failures = "worst"
    chance: float | None = None
    """What a failed run scores instead of the worst finite score of its cell."""
    unit: str | None = None
    higher_is_better: bool | None = None


def verdict(
    scores: Any,
    *,
    baseline: str | None = None,
    margin: float | None = None,
    pairing: Pairing = "independent",
    failures: Failures = "worst",
    chance: float | None = None,
    unit: str | None = None,
    higher_is_better: bool | None = None,
) -> Comparison:
    """Give verdicts on scores of runs that were made elsewhere.

    Args:
        scores: the path of a CSV file, a frame, a mapping of columns or a list of dicts, with `arm`, `seed`, `score`
            and perhaps `cell`, `unit`, `higher_is_better`; a score that is nan is a run that failed.
        baseline: the arm that every other is compared with; None for the one called `none` or `baseline`.
        margin: the largest difference that does not matter, in the unit of the scores; None for 1 point of percentages
            and 0.01 of shares.
        pairing: whether equal seeds are pairs.
        failures: what a failed run scores: the `worst` finite score of its cell, or nothing (`drop`).
        chance: what a failed run scores instead of the worst.
        unit: of the scores, where they have no column for it: `%`, or any text.
        higher_is_better: whether it is, where they have no column for it; None for yes.

    Raises:
        BadScores: the scores cannot be read, or not be compared; one line for each reason.
    """
    return compared(read(scores), Terms(baseline, margin, pairing, failures, chance, unit, higher_is_better))


def compared(table: Table, terms: Terms) -> Comparison:
    """The comparison of a table of scores.

    Raises:
        BadScores: as for `verdict`.
    """
    _check(terms)
    rows = table.scores()
    name = table.name.removesuffix(".csv")
    groups: dict[str, list[Score]] = {}
    for row in rows:
        groups.setdefault(row.cell or name, []).append(row)
    baseline = _baseline(rows, terms.baseline)
    found = [_Group(title, members, table.metric, terms) for title, members in groups.items()]
    cells = [group.cell(replace(group.plan, baseline=baseline)) for group in found]
    warnings = [*table.notes, *([f"not read: {', '.join(table.unread)}"] if table.unread else [])]
    for group, cell in zip(found, cells, strict=True):
        warnings += [*group.warnings(), *_few(cell), *cell_warnings(cell)]
    return Comparison(name, cells[0].plan, tuple(cells), 0, tuple(dict.fromkeys(warnings)))


class _Group:
    """The rows of a cell."""

    def __init__(self, title: str, rows: Sequence[Score], metric: str, terms: Terms) -> None:
        self.title, self.rows, self.terms = title, rows, terms
        self.finite = [row.value for row in rows if math.isfinite(row.value)]
        self.failed = [row for row in rows if not math.isfinite(row.value)]
        if not self.finite:
            raise BadScores([f"{title}: no run has a finite score"])
        unit = self._one("unit", [row.unit for row in rows], terms.unit)
        higher = self._one("higher_is_better", [row.higher_is_better for row in rows], terms.higher_is_better)
        self.guessed = unit is None
        self.measure = _measure(metric, unit, higher is not False, self.finite)
        margin = terms.margin if terms.margin is not None else self._margin()
        self.plan = Plan(margin=margin, pairing=terms.pairing, failures=terms.failures)
        if self.measure.unit != "%":  # a margin is seen to two digits
            self.measure = replace(self.measure, decimals=min(9, max(0, 2 - math.floor(math.log10(margin)))))
        worst = min(self.finite) if self.measure.higher_is_better else max(self.finite)
        self.instead = worst if terms.chance is None else terms.chance

    def cell(self, plan: Plan) -> Cell:
        """Its arms by their names; one of which every run failed is none as the baseline, or where failed runs drop."""
        arms: dict[str, list[Score]] = {}
        for row in sorted(self.rows, key=lambda row: row.seed):
            arms.setdefault(row.arm, []).append(row)
        samples = {
            arm: self._sample(arm, runs)
            for arm, runs in arms.items()
            if any(math.isfinite(run.value) for run in runs)
            or (self.terms.failures == "worst" and arm != plan.baseline)
        }
        way = f"{'higher' if self.measure.higher_is_better else 'lower'} is better"
        unit = f" in {self.measure.unit}" if self.measure.unit else ""
        regime = "" if self.measure.higher_is_better else way
        return cell_of(self.title, samples, plan, regime, f"{self.measure.name}{unit}, {way}")

    def warnings(self) -> list[str]:
        """What was taken for granted, what became of failed runs, and which runs are not there."""
        return [*self._scale(), *self._failures(), *self._unequal()]

    def _sample(self, arm: str, runs: Sequence[Score]) -> Sample:
        values = [run.value if math.isfinite(run.value) else self.instead for run in runs]
        failed = frozenset(run.seed for run in runs if not math.isfinite(run.value))
        seeds, mild = tuple(run.seed for run in runs), self.terms.chance is None
        return Sample(arm, seeds, np.array(values), measure=self.measure, failed=failed, mild=mild)

    def _one(self, what: str, found: Sequence[Any], asked: Any) -> Any:
        """What all rows say of something, or what was asked for where they say nothing."""
        said = list(dict.fromkeys(value for value in found if value is not None))
        if len(said) > 1:
            raise BadScores([f"{self.title}: {what} is {said[0]} and {said[1]} in one cell"])
        return said[0] if said else asked

    def _margin(self) -> float:
        if self.measure.unit == "%":
            return 1.0
        if self.guessed and self.measure.higher_is_better and min(self.finite) >= 0 and max(self.finite) <= 1:
            return SHARE_MARGIN
        unit = self.measure.unit or "the unit of the scores"
        raise BadScores(
            [f"{self.title}: a margin is needed (--margin): the largest difference in {unit} that does not matter"]
        )

    def _scale(self) -> list[str]:
        if not self.guessed or (self.terms.margin is not None and self.measure.unit != "%"):
            return []
        guess = "100 and are taken for percentages" if self.measure.unit == "%" else "1 and are taken for shares"
        margin = self.measure.amount(self.plan.margin)
        return [f"{self.title}: all scores lie between 0 and {guess}, with a margin of {margin}"]

    def _failures(self) -> list[str]:
        if not self.failed:
            return []
        runs = _several([f"{row.arm} seed {row.seed}" for row in self.failed])
        what = f"{self.title}: {runs} failed (no finite score); "
        if self.terms.failures == "drop":
            return [what + "means are over the runs that did not, which flatters an arm that fails"]
        form = f".{self.measure.decimals}f"
        rule, more = "chance", ""
        if self.terms.chance is None:
            rule = "the worst finite score of the cell"
            more = ", and no arm with one is called equivalent; --chance gives it the score of guessing"
        return [what + f"a failed run counts as {rule}, {self.instead:{form}}{more}"]

    def _unequal(self) -> list[str]:
        """Which arms lack seeds that others have."""
        seeds: dict[str, set[int]] = {}
        for row in self.rows:
            seeds.setdefault(row.arm, set()).add(row.seed)
        every = sorted(set().union(*seeds.values()))
        lacking = {arm: [seed for seed in every if seed not in own] for arm, own in seeds.items()}
        told = [
            f"{arm} has {len(seeds[arm])} of {len(every)} seeds, without {_several(list(map(str, absent)))}"
            for arm, absent in lacking.items()
            if absent
        ]
        used = "only seeds that both arms have are compared" if self.terms.pairing == "paired" else "all runs count"
        return [f"{self.title}: not every arm has every seed: {'; '.join(told[:MOST_TOLD])}; {used}"] if told else []


def _check(terms: Terms) -> None:
    mistakes = []
    if terms.margin is not None and not 0 < terms.margin < math.inf:
        mistakes.append(f"margin {terms.margin:g} must be above 0")
    if terms.chance is not None and not math.isfinite(terms.chance):
        mistakes.append(f"chance {terms.chance:g} must be a finite score")
    if terms.chance is not None and terms.failures == "drop":
        mistakes.append(
            "chance says what a failed run scores, and failures: drop that it scores nothing; give one of them"
        )
    if mistakes:
        raise BadScores(mistakes)


def _measure(metric: str, unit: str | None, higher: bool, finite: Sequence[float]) -> Measure:
    """What is scored; percentages where nothing is said of the unit and they can be."""
    if unit is None:
        unit = "%" if higher and min(finite) >= 0 and 1 < max(finite) <= 100 else ""
    return Measure(metric, metric, "%" if unit.lower() in PERCENT else unit, higher)


def _baseline(rows: Sequence[Score], asked: str | None) -> str:
    arms = list(dict.fromkeys(row.arm for row in rows))
    if len(arms) == 1:
        raise BadScores([f"only one arm, {arms[0]!r}: there is nothing to compare it with"])
    there = _several([repr(arm) for arm in arms])
    if asked is not None:
        if asked not in arms:
            raise BadScores([f"baseline {asked!r} is not among the arms {there}{nearest(asked, arms)}"])
        return asked
    usual = [arm for arm in arms if arm.lower() in BASELINES]
    if len(usual) != 1:
        raise BadScores([f"which arm is the baseline? give one of {there} (--baseline)"])
    return usual[0]


def _few(cell: Cell) -> list[str]:
    """Say that arms of a single run can decide nothing."""
    single = [arm.name for arm in cell.arms if len(arm.sample.seeds) == 1]
    if not single:
        return []
    return [
        f"{cell.name}: one run of {_several(single)}: the spread between seeds is unknown, and nothing can be decided"
    ]


def _several(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = len(names) - MOST_TOLD
    return ", ".join(names[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")
