"""At which results of a cell there are verdicts, and where each arm stands by them: the first that decides it stays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from attnbench.analysis.verdicts import Contrast, Plan, Sample, Waiting, contrasts
from attnbench.spec.arm import K, mechanism


@dataclass(frozen=True)
class Look(Generic[K]):
    """Results at which there are verdicts: of each arm, those of these seeds."""

    seeds: Mapping[K, tuple[int, ...]]
    size: int | None = None
    """How many seeds an arm it takes; None where it is as many as there are."""

    def lacking(self, arms: Sequence[K], samples: Mapping[K, Sample]) -> tuple[K, int] | None:
        """The arm that has the fewest of these results, and how many; None where all are there."""
        there = {arm: set(samples[arm].seeds) if arm in samples else set() for arm in arms}
        counts = {arm: sum(seed in there[arm] for seed in self.seeds[arm]) for arm in arms}
        short = [arm for arm in arms if counts[arm] < (self.size or len(self.seeds[arm]))]
        return min(((arm, counts[arm]) for arm in short), key=lambda found: found[1], default=None)


@dataclass(frozen=True)
class Course(Generic[K]):
    """Where the arms of a cell stand after the looks so far."""

    samples: Mapping[K, Sample]
    """What is known of each arm by the look that decided it; by all its results, where none has yet."""
    contrasts: Mapping[K, Contrast]
    """Of every arm but the baseline."""
    waiting: Waiting | None
    """For what the arms that are not decided wait; None where there is no further look."""


@dataclass(frozen=True)
class History(Generic[K]):
    """What decides at which results of a cell there are verdicts, beside its plan."""

    planned: Mapping[K, tuple[int, ...]] = field(default_factory=dict)
    """The seeds that each arm is to have, in order; nothing where what is there is all."""
    seen: Sequence[Mapping[K, tuple[int, ...]]] = ()
    """The seeds of each arm at the looks that people had at verdicts, in order."""

    def looks(self, samples: Mapping[K, Sample], baseline: K, plan: Plan) -> list[Look[K]]:
        """The looks of the plan; without any those that people had, and one at all that is planned."""
        planned = self.planned or {arm: sample.seeds for arm, sample in samples.items()}
        if plan.looks is None:
            return [*self._earlier(samples, baseline), Look(planned)]
        most = max(map(len, planned.values()))
        sizes = range(2, most + 1) if plan.looks == "any" else plan.looks
        return [Look({arm: seeds[:size] for arm, seeds in planned.items()}, size) for size in sizes]

    def _earlier(self, samples: Mapping[K, Sample], baseline: K) -> list[Look[K]]:
        """As far as their results are still there."""
        looks = []
        for each in self.seen:
            known = {arm: set(samples[arm].seeds).intersection(seeds) for arm, seeds in each.items() if arm in samples}
            there = {arm: tuple(sorted(seeds)) for arm, seeds in known.items() if seeds}
            if baseline in there:
                looks.append(Look(there))
        return looks


def follow(samples: Mapping[K, Sample], baseline: K, plan: Plan, looks: Sequence[Look[K]]) -> Course[K]:
    """Go from look to look as far as results are there; an arm that is decided at one is not looked at again.

    Args:
        samples: all results of each arm; those of arms that have none may be missing.
        looks: the last is of all arms.
    """
    left = [arm for arm in looks[-1].seeds if arm != baseline]
    stand: dict[K, tuple[Look[K], Contrast]] = {}
    for look in looks:
        here = [arm for arm in left if arm in look.seeds]
        if all(arm in stand and _same(look, stand[arm][0], (arm, baseline)) for arm in here):
            continue
        if short := look.lacking([*here, baseline], samples):
            waiting = Waiting(look.size or len(look.seeds[short[0]]), short[1], _name(short[0], samples))
            return _course(samples, baseline, plan, stand, left, waiting)
        cut = {arm: _cut(samples[arm], look, arm) for arm in (*here, baseline)}
        found = contrasts([cut[arm] for arm in here], cut[baseline], plan)
        stand |= {arm: (look, contrast) for arm, contrast in zip(here, found, strict=True)}
        left = [arm for arm in left if arm not in stand or stand[arm][1].verdict.kind == "undecided"]
    return _course(samples, baseline, plan, stand, [], None)


def unripe(contrast: Contrast, waiting: Waiting) -> Contrast:
    """A comparison as an estimate alone, without p values, for there is no verdict at these results."""
    verdict = replace(
        contrast.verdict, kind="undecided", p_value=math.nan, equivalence_p=math.nan, further=None, waiting=waiting
    )
    return replace(contrast, difference=replace(contrast.difference, p_value=math.nan), verdict=verdict)


def _course(
    samples: Mapping[K, Sample],
    baseline: K,
    plan: Plan,
    stand: Mapping[K, tuple[Look[K], Contrast]],
    left: Sequence[K],
    waiting: Waiting | None,
) -> Course[K]:
    """What each arm's answer is about, and the answer; `left` are the arms that are open to a further look."""
    kept, answers = dict(samples), {}
    early = [
        arm
        for arm in left
        if arm in samples and not (arm in stand and _all_of(stand[arm][0], samples, (arm, baseline)))
    ]
    if not early and stand:
        last = max((look for look, _ in stand.values()), key=lambda look: len(look.seeds[baseline]))
        kept[baseline] = _cut(samples[baseline], last, baseline)
    for arm, (look, contrast) in stand.items():
        if arm not in early:
            kept[arm], answers[arm] = _cut(samples[arm], look, arm), contrast
    if waiting and early:
        found = contrasts([samples[arm] for arm in early], samples[baseline], plan)
        answers |= {arm: unripe(contrast, waiting) for arm, contrast in zip(early, found, strict=True)}
    return Course(kept, answers, waiting)


def _cut(sample: Sample, look: Look[K], arm: K) -> Sample:
    """The results of an arm at a look."""
    seeds = [seed for seed in sample.seeds if seed in look.seeds[arm]]
    return sample if len(seeds) == len(sample.seeds) else replace(sample.at(seeds), stream=sample.stream)


def _same(look: Look[K], other: Look[K], arms: Sequence[K]) -> bool:
    return all(set(look.seeds[arm]) == set(other.seeds.get(arm, ())) for arm in arms)


def _all_of(look: Look[K], samples: Mapping[K, Sample], arms: Sequence[K]) -> bool:
    """Whether there are no other results of these arms than those of a look."""
    return all(set(samples[arm].seeds) == set(look.seeds[arm]) for arm in arms)


def _name(arm: K, samples: Mapping[K, Sample]) -> str:
    return samples[arm].name if arm in samples else mechanism(arm) or str(arm)
