"""The answer of `attnbench choose` in words: what is going to be done, what to take, and what stands behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from attnbench.analysis.budget import Outline
from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.choosing import Answer, Round, answer, promised
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.costs import costs
from attnbench.catalogue.registry import ATTENTION
from attnbench.report.best import best_sentence
from attnbench.report.text import p_text, signed, spread
from attnbench.spec.arm import mechanism
from attnbench.spec.contest import Contest, Rung


@dataclass(frozen=True)
class Choice:
    """All that a finished choice shows."""

    contest: Contest
    outline: Outline
    out: Mapping[str, str]
    """Mechanisms beyond the limits -> why."""
    ratios: Mapping[str, Mapping[str, float]]
    """Mechanism -> what it costs, as measured before."""
    rounds: Sequence[Round]
    comparison: Comparison
    """Of the confirmation."""
    spent: tuple[float, float]
    """What screening and confirmation took, in the unit of the budget."""

    @property
    def cell(self) -> Cell:
        """The confirmed arms."""
        (found,) = self.comparison.cells
        return found

    @cached_property
    def answer(self) -> Answer:
        """What the confirmation says."""
        return answer(self.cell)

    @property
    def confirmed(self) -> Sequence[str]:
        """The mechanisms that were confirmed, as the file spells them, the best of screening first.

        One all of whose runs failed is among them where a failed run scores something.
        """
        kept = self.rounds[-1].kept if self.rounds else [arm for arm in self.contest.arms if arm not in self.out]
        there = {mechanism(arm.key) for arm in self.cell.arms}
        return [arm for arm in kept if ATTENTION.canonical(arm) in there]

    @cached_property
    def promised(self) -> dict[str, float]:
        """Label of a confirmed arm -> its gain in the last rung of screening; empty where nothing was screened."""
        gains = promised(self.rounds, self.contest.baseline_text)
        return {self.cell.arm(arm).name: gains[arm] for arm in self.confirmed if arm in gains}


def advice(choice: Choice) -> str:
    """What to take, in one sentence, with its evidence."""
    winner, asked, baseline = choice.answer.winner, len(choice.contest.arms), choice.contest.baseline
    images = f"on these {choice.cell.arms[0].records[0].test['images']:,} test images"
    if winner is not None:
        return (
            f"{winner.name}: {_gain(winner)} over {baseline} {images}, of {asked} mechanisms{_promise(choice, winner)}."
        )
    top = max((arm for arm in choice.cell.arms if arm.contrast), key=lambda arm: arm.score.mean)
    assert top.contrast is not None
    return (
        f"{baseline}: no mechanism of the {asked} was shown to be better within the budget; the highest of those "
        f"confirmed, {top.name}, is {top.contrast.verdict.kind}: {_gain(top)} over {baseline} {images}"
        f"{_promise(choice, top)}."
    )


def alike(choice: Choice) -> str:
    """The arms that cannot be told from the best, and which of them costs least."""
    best = [arm.name for arm in choice.answer.best]
    timed = {cost.arm: cost.seconds_ratio.mean for cost in costs(choice.cell) if cost.arm in best}
    said = best_sentence(choice.cell) or f"May be the best of the confirmed arms: {', '.join(best)}."
    fastest = (
        f" Of those that may be the best, {min(timed, key=timed.__getitem__)} trains fastest." if len(timed) > 1 else ""
    )
    return f"{said}{fastest} Mechanisms that screening left behind were not confirmed."


def outline_lines(contest: Contest, outline: Outline, arms: int, out: Mapping[str, str]) -> list[str]:
    """What is going to be done, and by which rule, before anything is trained."""
    asked = ", ".join(f"{name} x{most:g}" for name, most in contest.limits.items()) or "none"
    lines = [f"{arms} of {len(contest.arms)} mechanisms are within the limits ({asked})"]
    lines += [f"  left out: {arm}: {why}" for arm, why in out.items()]
    lines += [rule(contest)] if outline.rungs else ["no screening: all of them are confirmed"]
    for number, (rung, cost) in enumerate(zip(outline.rungs, outline.rung_costs, strict=True), start=1):
        lines.append(f"  rung {number}: {rung_words(rung)}, {_amount(contest, cost)}")
    looks = ", ".join(map(str, outline.looks))
    confirmed = min(contest.confirm, arms)
    lines.append(
        f"confirmation: {confirmed} mechanisms and {contest.baseline} on the test split with fresh seeds, verdicts at "
        f"{looks} seeds an arm, at most {_amount(contest, outline.confirmation)}"
    )
    total = outline.screening + outline.confirmation
    lines.append(f"in all at most about {_amount(contest, total)} of the {_amount(contest, contest.amount)}")
    return lines


def rule(contest: Contest) -> str:
    """How screening goes."""
    return (
        "screening by successive halving, on validation images only: in each rung the mechanisms with the highest mean "
        f"accuracy go on, about one in {contest.screening.get('eta', 3):g}, to be trained so many times as much"
    )


def rung_words(rung: Rung) -> str:
    """A rung in a few words."""
    new = "" if rung.new == rung.seeds else f" ({rung.new} of them new)"
    seeds = f"{rung.seeds} seed{'s' * (rung.seeds != 1)}{new}"
    epochs = f"{rung.epochs} epoch{'s' * (rung.epochs != 1)}"
    return f"{rung.arms} mechanisms, {epochs}, {seeds}; {rung.kept} go on"


def plan_lines(choice: Choice) -> list[str]:
    """The plan as it was carried out."""
    arms = len(choice.contest.arms) - len(choice.out)
    first, second = (_amount(choice.contest, each) for each in choice.spent)
    return [
        *outline_lines(choice.contest, choice.outline, arms, {}),
        f"spent: {first} on screening, {second} on confirmation",
    ]


def _gain(arm: Arm) -> str:
    """The confirmed gain with its evidence."""
    found = arm.contrast
    assert found is not None
    gap, family = found.difference, found.verdict.family
    p = p_text(found.verdict.p_value) + (f" corrected over {family} mechanisms" if family > 1 else "")
    seeds = f"{gap.n} + {gap.n_baseline} fresh seeds"
    return f"{signed(gap.mean)} points (95 % interval {spread(gap, plus=True)}, p {p}, {seeds})"


def _promise(choice: Choice, arm: Arm) -> str:
    """What screening had said of it."""
    gain = choice.promised.get(arm.name)
    return "" if gain is None else f"; screening had promised {signed(gain)}"


def _amount(contest: Contest, value: float) -> str:
    """So much of what the budget is counted in."""
    return f"{value:.0f} runs" if contest.unit == "runs" else f"{value:.2f} {contest.unit}"


def round_lines(contest: Contest, rounds: Sequence[Round], looks: Sequence[int]) -> list[str]:
    """What screening found, and what is confirmed now."""
    lines = []
    for number, each in enumerate(rounds, start=1):
        gains = [f"{arm} {signed(each.mean(arm) - each.mean(contest.baseline_text))}" for arm in each.kept]
        lines.append(f"rung {number}: {', '.join(gains)} points of validation accuracy over {contest.baseline} go on")
    return [*lines, f"confirmation: verdicts at {', '.join(map(str, looks))} seeds an arm"]
