"""Two arms against each other: one sentence and one small table."""

from dataclasses import dataclass
from typing import Literal

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.verdicts import Contrast
from attnbench.errors import StoreProblem
from attnbench.report.sentences import sentence
from attnbench.report.text import signed, spread


@dataclass(frozen=True)
class Pair:
    """What two arms of one cell have to say about each other."""

    cell: Cell
    arm: Arm
    other: Arm
    contrast: Contrast

    def __str__(self) -> str:
        gap, measure = self.contrast.difference, self.cell.measure
        places = measure.decimals
        rows = [
            (arm.name, f"{arm.score.mean:.{places}f}", spread(arm.score, decimals=places), spread(arm.new_images))
            for arm in (self.arm, self.other)
        ]
        images = spread(self.contrast.new_images, plus=True)
        rows.append(("difference", signed(gap.mean, places), spread(gap, plus=True, decimals=places), images))
        rows.insert(0, ("", measure.unit, "this test set", "new images"))
        table = [f"  {name:28} {mean:>7}  {here:18} {images}".rstrip() for name, mean, here, images in rows]
        return "\n".join([sentence(self.contrast, self.cell), *table])


def pair(cell: Cell, arm: str, other: str) -> Pair:
    """Two arms of a cell.

    Raises:
        StoreProblem: one of them has no done run, or is several arms, or they are the same.
    """
    one, two = cell.arm(arm), cell.arm(other)
    if one is two:
        raise StoreProblem(f"{arm} and {other} are the same arm, {one.name}: name two")
    return Pair(cell, one, two, cell.between(one, two))


def holds(pair: Pair, expected: Literal["better", "worse"]) -> bool:
    """Whether the verdict is the one expected."""
    return pair.contrast.verdict.kind == expected
