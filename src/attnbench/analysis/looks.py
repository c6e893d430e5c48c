"""At which results of a cell there are verdicts, and where each arm stands by them: the first that decides it stays."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from attnbench.analysis.course import Progress
from attnbench.analysis.plan import Plan
from attnbench.analysis.power import able, open_looks
from attnbench.analysis.sample import Sample
from attnbench.analysis.sequential import Spending
from attnbench.analysis.verdicts import Contrast, Waiting, contrasts
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
class Stand(Generic[K]):
    """Where the arms of a cell stand after the looks so far."""

    samples: Mapping[K, Sample]
    """What is known of each arm by the look that decided it; by all its results, where none has yet."""
    contrasts: Mapping[K, Contrast]
    """Of every arm but the baseline."""
    waiting: Waiting | None
    """For what the arms that are not decided wait; None where there is no further look."""


@dataclass(frozen=True)
class Agenda(Generic[K]):
    """The looks of a cell, in order, and how they share the error."""

    looks: Sequence[Look[K]]
    """The last is of all arms."""
    spending: Spending | None
    """None where every run is a look."""

    def so_far(self, count: int, arms: Sequence[K], baseline: K, settled: Sequence[Contrast]) -> Progress:
        """The first looks as contrasts see them."""
        return Progress(
            self.spending and self.spending.first(count),
            [[self._order(arm, past) for arm in arms] for past in range(1, count + 1)],
            [self._order(baseline, past) for past in range(1, count + 1)],
            [(alone.p_value, alone.equivalence_p) for one in settled if (alone := one.verdict.alone)],
        )

    def cut(self, sample: Sample, arm: K, count: int) -> Sample:
        """The results of an arm at the first looks, in the order in which they came."""
        done = set(sample.seeds)
        seeds = [seed for seed in self._order(arm, count) if seed in done]
        return sample if tuple(seeds) == sample.seeds else sample.at(seeds)

    def _order(self, arm: K, count: int) -> dict[int, None]:
        """The seeds of an arm in the order in which the first looks saw them."""
        return dict.fromkeys(seed for look in self.looks[:count] for seed in look.seeds.get(arm, ()))


@dataclass(frozen=True)
class History(Generic[K]):
    """What decides at which results of a cell there are verdicts, beside its plan."""

    planned: Mapping[K, tuple[int, ...]] = field(default_factory=dict)
    """The seeds that each arm is to have, in order; nothing where what is there is all."""
    seen: Sequence[Mapping[K, tuple[int, ...]]] = ()
    """The seeds of each arm at the looks that people had at verdicts, in order."""

    def agenda(self, samples: Mapping[K, Sample], baseline: K, plan: Plan) -> Agenda[K]:
        """The looks of the plan; without any those that people had, and one at all that is planned."""
        planned = self.planned or {arm: sample.seeds for arm, sample in samples.items()}
        if plan.looks is None:
            every = _without_repeats([*self._earlier(samples, baseline), Look(planned)])
            most = (max(map(len, look.seeds.values())) for look in every)
            seeds = list(itertools.accumulate(most, max))  # where some were taken out, those seen before still count
            kept = open_looks(seeds, len(planned) - 1, plan.pairing)
            return Agenda([every[place] for place in kept], Spending.open([seeds[place] for place in kept]))
        if plan.looks == "any":
            spending, sizes = None, tuple(range(2, max(map(len, planned.values())) + 1))
        else:
            spending = able(plan.looks, len(planned) - 1, plan.pairing)
            sizes = spending.seeds
        return Agenda([Look({arm: seeds[:n] for arm, seeds in planned.items()}, n) for n in sizes], spending)

    def _earlier(self, samples: Mapping[K, Sample], baseline: K) -> list[Look[K]]:
        """As far as their results are still there."""
        looks = []
        for each in self.seen:
            known = {arm: set(samples[arm].seeds).intersection(seeds) for arm, seeds in each.items() if arm in samples}
            there = {arm: tuple(sorted(seeds)) for arm, seeds in known.items() if seeds}
            if baseline in there:
                looks.append(Look(there))
        return looks


def follow(samples: Mapping[K, Sample], baseline: K, plan: Plan, agenda: Agenda[K]) -> Stand[K]:
    """Go from look to look as far as results are there; an arm that is decided at one is not looked at again.

    Args:
        samples: all results of each arm; those of arms that have none may be missing.
    """
    left = [arm for arm in agenda.looks[-1].seeds if arm != baseline]
    stand: dict[K, tuple[int, Contrast]] = {}
    for count, look in enumerate(agenda.looks, start=1):
        here = [arm for arm in left if arm in look.seeds]
        if not here:
            continue
        if short := look.lacking([baseline, *here], samples):
            waiting = Waiting(look.size or len(look.seeds[short[0]]), short[1], _name(short[0], samples))
            return _stand(samples, baseline, plan, agenda, stand, left, waiting)
        settled = [contrast for arm, (_, contrast) in stand.items() if arm not in left]
        cut = {arm: agenda.cut(samples[arm], arm, count) for arm in (*here, baseline)}
        progress = agenda.so_far(count, here, baseline, settled)
        found = contrasts([cut[arm] for arm in here], cut[baseline], plan, progress)
        stand |= {arm: (count, contrast) for arm, contrast in zip(here, found, strict=True)}
        left = [arm for arm in left if arm not in stand or stand[arm][1].verdict.kind == "undecided"]
    return _stand(samples, baseline, plan, agenda, stand, [], None)


def unripe(contrast: Contrast, waiting: Waiting) -> Contrast:
    """A comparison as an estimate alone, without p values, for there is no verdict at these results."""
    verdict = replace(
        contrast.verdict, kind="undecided", p_value=math.nan, equivalence_p=math.nan, further=None, waiting=waiting
    )
    return replace(contrast, difference=replace(contrast.difference, p_value=math.nan), verdict=verdict)


def _stand(
    samples: Mapping[K, Sample],
    baseline: K,
    plan: Plan,
    agenda: Agenda[K],
    stand: Mapping[K, tuple[int, Contrast]],
    left: Sequence[K],
    waiting: Waiting | None,
) -> Stand[K]:
    """What each arm's answer is about, and the answer; `left` are the arms that are open to a further look."""
    kept, answers = dict(samples), {}
    cut = {arm: agenda.cut(samples[arm], arm, count) for arm, (count, _) in stand.items()}
    early = [
        arm for arm in left if arm in samples and not (arm in stand and len(cut[arm].seeds) == len(samples[arm].seeds))
    ]
    if not early and stand:
        kept[baseline] = agenda.cut(samples[baseline], baseline, max(count for count, _ in stand.values()))
    for arm, (_, contrast) in stand.items():
        if arm not in early:
            kept[arm], answers[arm] = cut[arm], contrast
    if waiting and early:
        found = contrasts([samples[arm] for arm in early], samples[baseline], plan)
        answers |= {arm: unripe(contrast, waiting) for arm, contrast in zip(early, found, strict=True)}
    return Stand(kept, answers, waiting)


def _without_repeats(looks: Sequence[Look[K]]) -> list[Look[K]]:
    """A look is none of its own whose results the next one has too, without any more of the same arms."""
    return [*(look for look, later in itertools.pairwise(looks) if not _sets(look) <= _sets(later)), looks[-1]]


def _sets(look: Look[K]) -> set[tuple[K, frozenset[int]]]:
    return {(arm, frozenset(seeds)) for arm, seeds in look.seeds.items()}


def _name(arm: K, samples: Mapping[K, Sample]) -> str:
    return samples[arm].name if arm in samples else mechanism(arm) or str(arm)
