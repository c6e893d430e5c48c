"""What the committed studies found, as the package carries it: one line for each mechanism in each regime."""

import dataclasses
import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

FILE = "findings.json"
"""Beside the catalogue; written by `make docs` from the records of the studies."""
NEAR = 3.0
"""Times as many or as few training images at which a regime still says something of another."""


@dataclass(frozen=True)
class Regime:
    """What was trained: the same for all mechanisms of a cell but their modules."""

    study: str
    """Name of the study whose records are committed."""
    dataset: str
    backbone: str
    recipe: str
    epochs: int
    train_images: int
    image_size: int
    """Side in pixels."""
    baseline: str
    margin: float
    """In points: within it a difference counts as none."""

    def distance(self, train_images: int) -> float:
        """How many times as many, or as few, training images somebody else has."""
        return math.exp(abs(math.log(train_images / self.train_images)))

    def alike(self, other: "Regime") -> bool:
        """Whether another study trained the same, so that the mechanisms of both can be set side by side."""
        return dataclasses.replace(other, study=self.study, margin=self.margin) == self


@dataclass(frozen=True)
class Finding:
    """What one mechanism gave in a regime."""

    regime: Regime
    attention: str
    seeds: int
    """Of the mechanism."""
    baseline_seeds: int
    gain: float
    """In points of accuracy on the regime's test images."""
    low: float
    high: float
    """Ends of the gain's 95 % interval, of this comparison alone."""
    verdict: Literal["better", "worse", "equivalent", "undecided"]
    parameters: float
    """Ratio to the baseline, as all costs."""
    training: float
    latency: float | None
    """None where it was not measured."""


@dataclass(frozen=True)
class Advised:
    """What the findings say to somebody's question."""

    regime: Regime | None
    """The nearest that was tried; None if there is none near enough."""
    fitting: tuple[Finding, ...]
    """Mechanisms of it and of regimes alike that are within the limits, the largest gain first."""
    beyond: int
    """How many are beyond a limit."""
    unmeasured: int
    """How many have a cost that is limited and was not measured."""
    elsewhere: tuple[Finding, ...]
    """What the first of those that are better gave in other studies."""

    @property
    def better(self) -> tuple[Finding, ...]:
        """Those that were shown to be better."""
        return tuple(each for each in self.fitting if each.verdict == "better")


@functools.cache
def known() -> tuple[Finding, ...]:
    """All findings that the package carries."""
    return tuple(_finding(line) for line in json.loads(files("attnbench.catalogue").joinpath(FILE).read_text()))


def advised(
    findings: Iterable[Finding],
    like: str | None = None,
    limits: Mapping[str, float] | None = None,
    train_images: int | None = None,
) -> Advised:
    """The mechanisms of the nearest regime that are within the limits.

    Args:
        like: a data set by the name of its card; None for any.
        limits: parameters, training or latency -> the largest ratio to the baseline.
        train_images: how many there are; None takes the regime with the most.
    """
    findings, limits = tuple(findings), limits or {}
    found = [each for each in findings if like in (None, each.regime.dataset)]
    regime = _nearest({each.regime for each in found}, train_images)
    if regime is None:
        return Advised(None, (), 0, 0, ())
    here = [each for each in found if each.regime.alike(regime)]
    measured = [each for each in here if all(getattr(each, name) is not None for name in limits)]
    within = [each for each in measured if all(getattr(each, name) <= most for name, most in limits.items())]
    fitting = tuple(sorted(within, key=lambda each: -each.gain))
    first = next((each for each in fitting if each.verdict == "better"), None)
    elsewhere = tuple(each for each in findings if first and each.attention == first.attention and each != first)
    return Advised(regime, fitting, len(measured) - len(within), len(here) - len(measured), elsewhere)


def as_line(finding: Finding) -> dict[str, object]:
    """One line of the file."""
    return dataclasses.asdict(finding)


def _finding(line: dict[str, Any]) -> Finding:
    return Finding(**{**line, "regime": Regime(**line["regime"])})


def _nearest(regimes: Iterable[Regime], train_images: int | None) -> Regime | None:
    """The regime with the most training images, or with the number nearest to one's own, if that is near at all."""
    ordered: Sequence[Regime] = sorted(regimes, key=lambda each: (-each.train_images, -each.epochs, each.study))
    if train_images is None:
        return next(iter(ordered), None)
    near = [each for each in ordered if each.distance(train_images) <= NEAR]
    return min(near, key=lambda each: each.distance(train_images), default=None)
