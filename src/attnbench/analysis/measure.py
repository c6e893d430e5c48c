"""What a run's score measures: its name, its unit, and which way is better."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What a run's score is. Differences of percentages are told in points, all others in the unit itself."""

    name: str = "score"
    """In a sentence: `test accuracy`."""
    head: str = "score"
    """At the head of a column: `accuracy`."""
    unit: str = "%"
    """Any text; none for a bare number."""
    higher_is_better: bool = True
    decimals: int = 2
    """With how many a score is shown."""

    @property
    def plural(self) -> str:
        """Several of them: `test accuracies`."""
        return f"{self.name[:-1]}ies" if self.name.endswith("y") else f"{self.name}s"

    @property
    def axis(self) -> str:
        """The title of an axis of scores: `test accuracy (%)`."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def steps(self) -> str:
        """What a difference is counted in: `points`."""
        return "points" if self.unit == "%" else self.unit

    def told(self, score: float) -> str:
        """A score with its unit: `10 %`, `61.37 %`, `1,320 ms`."""
        whole, _, rest = f"{score:,.{self.decimals}f}".partition(".")
        return f"{whole}{'.' * bool(rest.rstrip('0'))}{rest.rstrip('0')} {self.unit}".rstrip()

    def amount(self, size: float) -> str:
        """A size without a sign, such as a margin: `1 point`, `0.5 points`, `0.3 s`."""
        unit = self.steps.removesuffix("s") if self.unit == "%" and size == 1 else self.steps
        return f"{size:g} {unit}".rstrip()


ACCURACY = Measure("test accuracy", "accuracy")
"""What the runs of this package score: test accuracy in percent."""
