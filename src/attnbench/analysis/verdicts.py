"""The accuracies of arms to verdicts: better, worse, equivalent or undecided, each with its evidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from attnbench.analysis.power import further_seeds
from attnbench.analysis.resampling import Pairing, bootstrap_variance
from attnbench.analysis.stats import (
    ALPHA,
    Correlation,
    Difference,
    Estimate,
    churn,
    contrast,
    correlation,
    crossed,
    difference,
    equivalence_p,
    holm,
    superiority,
)

Kind = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Plan:
    """How the analysis is done, declared before the runs."""

    baseline: str = "none"
    """The arm that every other is compared with."""
    margin: float = 1.0
    """Equivalence margin in percentage points."""
    pairing: Pairing = "independent"
    """Whether equal seeds are pairs."""


@dataclass(frozen=True)
class Design:
    """How many seeds an arm, and how many comparisons share the 5 % error, in some cells of a study."""

    seeds: int
    family: int
    margin: float
    pairing: Pairing


@dataclass(frozen=True)
class Sample:
    """The runs of one arm: S seeds, and what each predicts of the same N test images."""

    name: str
    seeds: tuple[int, ...]
    accuracies: np.ndarray
    """S, percent."""
    predicted: np.ndarray | None = None
    """S x N classes; None where predictions are missing."""
    labels: np.ndarray | None = None
    """N classes."""
    images: int = 0
    """N, of which the accuracies are shares; 0 where they are something else, or N is not known."""

    def at(self, seeds: Sequence[int]) -> "Sample":
        """The runs of some of its seeds."""
        rows = [self.seeds.index(seed) for seed in seeds]
        kept = None if self.predicted is None else self.predicted[rows]
        return replace(self, seeds=tuple(seeds), accuracies=self.accuracies[rows], predicted=kept)

    @property
    def right(self) -> np.ndarray | None:
        """S x N, 100 where a run is right about an image, else 0; None where predictions are missing."""
        return None if self.predicted is None else 100.0 * (self.predicted == self.labels)


@dataclass(frozen=True)
class Verdict:
    """The answer about one arm and another; both p values are Holm's, over the family.

    *better* or *worse*: p below 0.05, and an interval without 0; else *equivalent*: p of the two one-sided tests
    below 0.05; else *undecided*.
    """

    kind: Kind
    p_value: float
    equivalence_p: float
    family: int
    """Comparisons that share the 5 % error."""
    margin: float
    further: int | None = None
    """Where undecided: about how many more seeds an arm decide; None where a thousand in all do not, or unknown."""

    @property
    def within_margin(self) -> bool:
        """Whether equivalence passes, beside a difference or alone."""
        return self.equivalence_p < ALPHA


@dataclass(frozen=True)
class Contrast:
    """An arm against another, with all that was measured of the two."""

    arm: str
    other: str
    difference: Difference
    """In percentage points; estimand: this test set."""
    new_images: Estimate | None
    """The same for the estimand new images; None where predictions are missing."""
    verdict: Verdict
    pairing: Pairing
    correlation: Correlation
    """Over the seeds that both have."""
    superiority: Estimate
    """P(a run of the arm beats a run of the other); here `n` is 1, the one data set."""
    churn: Estimate | None
    """Share of images, in percent, on which the two disagree at equal seeds; None where predictions are missing."""

    def mirrored(self) -> "Contrast":
        """The same comparison told the other way round."""
        gap, new, wins = self.difference, self.new_images, self.superiority
        swapped: dict[Kind, Kind] = {"better": "worse", "worse": "better"}
        return replace(
            self,
            arm=self.other,
            other=self.arm,
            difference=Difference(-gap.mean, -gap.high, -gap.low, gap.p_value, gap.n_baseline, gap.n),
            new_images=new and Estimate(-new.mean, -new.high, -new.low, new.n),
            verdict=replace(self.verdict, kind=swapped.get(self.verdict.kind, self.verdict.kind)),
            superiority=Estimate(1 - wins.mean, 1 - wins.high, 1 - wins.low, wins.n),
        )


def contrasts(arms: Sequence[Sample], other: Sample, plan: Plan) -> list[Contrast]:
    """Every arm against `other`: one family, whose two kinds of tests are each corrected by Holm's method."""
    matched = [_paired(arm, other) for arm in arms]
    pairs = matched if plan.pairing == "paired" else [(arm, other) for arm in arms]
    gaps = [difference(one.accuracies, two.accuracies, plan.pairing) for one, two in pairs]
    adjusted = holm([gap.p_value for gap in gaps])
    equal = holm([equivalence_p(one.accuracies, two.accuracies, plan.margin, plan.pairing) for one, two in pairs])
    return [
        Contrast(
            arm=one.name,
            other=two.name,
            difference=gap,
            new_images=_new_images(one, two, plan.pairing),
            verdict=_verdict(one, two, gap, p, same, plan, len(pairs)),
            pairing=plan.pairing,
            correlation=correlation(*(sample.accuracies for sample in equal_seeds)),
            superiority=superiority([(one.accuracies, two.accuracies)]),
            churn=_churn(*equal_seeds),
        )
        for (one, two), equal_seeds, gap, p, same in zip(pairs, matched, gaps, adjusted, equal, strict=True)
    ]


def _paired(one: Sample, two: Sample) -> tuple[Sample, Sample]:
    """Both arms at the seeds that both have."""
    shared = [seed for seed in one.seeds if seed in two.seeds]
    return one.at(shared), two.at(shared)


def _new_images(one: Sample, two: Sample, pairing: Pairing) -> Estimate | None:
    """The difference for seeds and images like these."""
    rights, n = (one.right, two.right), min(len(one.seeds), len(two.seeds))
    if rights[0] is None or rights[1] is None or n < 2:
        return None
    drawn = (rights[0] - rights[1],) if pairing == "paired" else rights
    return crossed(bootstrap_variance(*drawn), *contrast(one.accuracies, two.accuracies, pairing), n)


def _verdict(one: Sample, two: Sample, gap: Difference, p: float, same: float, plan: Plan, family: int) -> Verdict:
    if p < ALPHA and not gap.low <= 0 <= gap.high:
        return Verdict("better" if gap.mean > 0 else "worse", p, same, family, plan.margin)
    if same < ALPHA:
        return Verdict("equivalent", p, same, family, plan.margin)
    return Verdict("undecided", p, same, family, plan.margin, _further(one, two, plan, family))


def _further(one: Sample, two: Sample, plan: Plan, family: int) -> int | None:
    _, error, freedom = contrast(one.accuracies, two.accuracies, plan.pairing)
    if math.isnan(error):
        return None
    seeds = min(len(one.seeds), len(two.seeds))
    if plan.pairing == "paired":
        spread = error * math.sqrt(seeds)
    else:
        spread = math.sqrt((one.accuracies.var(ddof=1) + two.accuracies.var(ddof=1)) / 2)
    return further_seeds(spread, freedom, seeds, plan.margin, family, plan.pairing)


def _churn(one: Sample, two: Sample) -> Estimate | None:
    if one.predicted is None or two.predicted is None or not one.seeds:
        return None
    return churn(one.predicted, two.predicted)
