"""Two arms against each other: one sentence and one small table."""

from dataclasses import dataclass
from typing import Literal

from attnbench.comparison import Arm, Cell
from attnbench.errors import StoreProblem
from attnbench.report.tables import interval, p_text, signed
from attnbench.stats import Difference, difference


@dataclass(frozen=True)
class Pair:
    """What two arms of one cell have to say about each other."""

    cell: str
    arm: Arm
    other: Arm
    difference: Difference

    def __str__(self) -> str:
        gap, record = self.difference, self.arm.records[0]
        way, span = "above" if gap.mean >= 0 else "below", interval(gap.low, gap.high, plus=True)
        sentence = (
            f"{self.cell}: {self.arm.name} is {abs(gap.mean):.2f} points {way} {self.other.name} "
            f"(95 % interval {span}, exact permutation p {p_text(gap.p_value)}, n = {gap.n} + {gap.n_baseline}; "
            f"{record.spec['epochs']} epochs, recipe {record.recipe or 'as given'})."
        )
        rows = [(arm.name, f"{arm.accuracy.mean:.2f}", interval(arm.accuracy.low, arm.accuracy.high))
                for arm in (self.arm, self.other)]  # fmt: skip
        rows.append(("difference", signed(gap.mean), span))
        return "\n".join([sentence, *(f"  {name:28} {mean:>7}  {bounds}" for name, mean, bounds in rows)])


def pair(cell: Cell, arm: str, other: str) -> Pair:
    """Two arms of a cell.

    Raises:
        StoreProblem: one of them has no done run.
    """
    found = []
    for name in (arm, other):
        one = cell.arm(name)
        if one is None:
            raise StoreProblem(
                f"{cell.name}: no done run of {name!r}; there are {', '.join(a.name for a in cell.arms)}"
            )
        found.append(one)
    one, two = found
    return Pair(cell.name, one, two, difference(one.accuracies, two.accuracies))


def holds(pair: Pair, expected: Literal["better", "worse"]) -> bool:
    """Whether the first arm is better (worse): an interval that excludes 0 and p < 0.05."""
    gap = pair.difference
    beyond = gap.low > 0 if expected == "better" else gap.high < 0
    return beyond and gap.p_value < 0.05
