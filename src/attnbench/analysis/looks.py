"""At which results of a cell there are verdicts, and where each arm stands by them: the first that decides it stays."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from attnbench.analysis.verdicts import Contrast, Plan, Sample, Waiting, contrasts

K = TypeVar("K", bound=Hashable)


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


def planned_looks(seeds: Mapping[K, tuple[int, ...]], plan: Plan) -> list[Look[K]]:
    """The looks of a plan for arms that are to have these seeds, in order."""
    if plan.looks is None:
        return [Look(seeds)]
    most = max(map(len, seeds.values()), default=0)
    sizes = range(2, most + 1) if plan.looks == "any" else plan.looks
    return [Look({arm: own[:size] for arm, own in seeds.items()}, size) for size in sizes]


def earlier_looks(
    seen: Sequence[Mapping[K, tuple[int, ...]]], samples: Mapping[K, Sample], baseline: K
) -> list[Look[K]]:
    """Looks that people had at verdicts, as far as their results are still there."""
    looks = []
    for each in seen:
        there = {arm: tuple(seed for seed in seeds if seed in samples[arm].seeds)
                 for arm, seeds in each.items() if arm in samples}  # fmt: skip
        if there.get(baseline) and len(there) > 1:
            looks.append(Look({arm: seeds for arm, seeds in there.items() if seeds}))
    return looks


def follow(samples: Mapping[K, Sample], baseline: K, plan: Plan, looks: Sequence[Look[K]]) -> Course[K]:
    """Go from look to look as far as results are there; an arm that is decided at one is not looked at again.

    Args:
        samples: all results of each arm; those of arms that have none may be missing.
        looks: the last is of all arms.
    """
    open_, waiting = [arm for arm in looks[-1].seeds if arm != baseline], None
    stand: dict[K, tuple[Look[K], Contrast]] = {}
    for look in looks:
        here = [arm for arm in open_ if arm in look.seeds]
        if not here or all(arm in stand and _same(look, stand[arm][0], (arm, baseline)) for arm in here):
            continue
        if short := look.lacking([*here, baseline], samples):
            waiting = Waiting(look.size or len(look.seeds[short[0]]), short[1], _name(short[0], samples))
            break
        quick = len(looks) > 1
        known = {arm: _cut(samples[arm], look.seeds[arm], quick) for arm in (*here, baseline)}
        found = contrasts([known[arm] for arm in here], known[baseline], plan)
        stand |= {arm: (look, contrast) for arm, contrast in zip(here, found, strict=True)}
        open_ = [arm for arm in open_ if arm not in stand or stand[arm][1].verdict.kind == "undecided"]
    return _course(samples, baseline, plan, stand, open_ if waiting else [], waiting)


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
    open_: Sequence[K],
    waiting: Waiting | None,
) -> Course[K]:
    """The results that each arm's answer is about, and the answer with all its evidence."""
    kept = dict(samples)
    if stand and not open_:
        last = max((look for look, _ in stand.values()), key=lambda look: len(look.seeds[baseline]))
        kept[baseline] = _cut(samples[baseline], last.seeds[baseline])
    answers: dict[K, Contrast] = {}
    for arm, (look, quick) in stand.items():
        if arm in open_ and _more(look, samples, (arm, baseline)):
            continue
        kept[arm] = _cut(samples[arm], look.seeds[arm])
        base = bases.setdefault(look.size, _cut(samples[baseline], look.seeds[baseline]))
        (whole,) = contrasts([kept[arm]], base, plan)
        answers[arm] = replace(whole, verdict=quick.verdict)
    if waiting and baseline in samples:
        left = [arm for arm in open_ if arm not in answers and arm in samples]
        found = contrasts([samples[arm] for arm in left], samples[baseline], plan)
        answers |= {arm: unripe(contrast, waiting) for arm, contrast in zip(left, found, strict=True)}
    return Course(kept, answers, waiting)


def _cut(sample: Sample, seeds: Sequence[int], quick: bool = False) -> Sample:
    """The results of some of its seeds; `quick`: without predictions, which decide nothing."""
    cut = replace(sample.at([seed for seed in sample.seeds if seed in seeds]), stream=sample.stream)
    return replace(cut, predicted=None, labels=None) if quick else cut


def _same(look: Look[K], other: Look[K], arms: Sequence[K]) -> bool:
    return all(set(look.seeds[arm]) == set(other.seeds.get(arm, ())) for arm in arms)


def _more(look: Look[K], samples: Mapping[K, Sample], arms: Sequence[K]) -> bool:
    """Whether there are other results of these arms than those of a look."""
    return any(set(samples[arm].seeds) != set(look.seeds[arm]) for arm in arms)


def _name(arm: K, samples: Mapping[K, Sample]) -> str:
    return samples[arm].name if arm in samples else str(getattr(arm, "attention", arm))
