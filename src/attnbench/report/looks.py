"""What a look decided and what goes on, in lines for the console."""

from collections.abc import Container, Sequence

from attnbench.analysis.cells import Arm
from attnbench.analysis.comparison import Comparison, Place
from attnbench.console import listed
from attnbench.report.sentences import sentence


def look_lines(
    comparison: Comparison, seeds: int, decided: Container[Place], before: Container[Place], last: bool
) -> list[str]:
    """A line for the look, and a sentence for each arm that it decided, at the last for those that stay open too.

    Args:
        seeds: how many an arm has that was open.
        decided: the arms that this look and those before it decided.
        before: those of the looks before it.
        last: whether nothing more is trained.
    """
    cells = {id(arm): cell for cell in comparison.cells for arm in cell.arms}
    compared = {place: arm for place, arm in comparison.places.items() if arm.contrast}
    new = [arm for place, arm in compared.items() if place in decided and place not in before]
    left = [arm for place, arm in compared.items() if place not in decided]

    def names(arms: Sequence[Arm]) -> str:
        return listed(
            [arm.name if len(comparison.cells) == 1 else f"{arm.name} ({cells[id(arm)].name})" for arm in arms]
        )

    parts = [f"nothing {'more ' * bool(before)}is decided"]
    if new:
        parts = [f"{names(new)} {'is' if len(new) == 1 else 'are'} decided"]
    if left:
        alone, several = ("stays open", "stay open") if last else ("goes on", "go on")
        parts.append(f"{names(left)} {alone if len(left) == 1 else several}")
    shown = [*new, *(left if last else [])]
    return [
        f"look at {seeds} seeds an arm: {'; '.join(parts)}",
        *(f"  {sentence(arm.contrast, cells[id(arm)])}" for arm in shown if arm.contrast),
    ]
