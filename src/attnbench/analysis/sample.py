"""The runs of one arm, as the statistics see them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnbench.analysis.measure import ACCURACY, Measure
from attnbench.analysis.plan import Failures


@dataclass(frozen=True)
class Sample:
    """The runs of one arm: S seeds, what each scored, and what each predicts of the same N test images."""

    name: str
    seeds: tuple[int, ...]
    values: np.ndarray
    """S scores, in the unit of `measure`."""
    predicted: np.ndarray | None = None
    """S x N classes; None where predictions are missing."""
    labels: np.ndarray | None = None
    """N classes."""
    measure: Measure = ACCURACY
    images: int = 0
    """N, of which the accuracies are shares; 0 where they are something else, or N is not known."""
    failed: frozenset[int] = frozenset()
    """Seeds whose runs failed: they score chance level, and what they predict is no class."""
    mild: bool = False
    """Whether failed runs score no worse than a run that did not fail, because nothing says what chance level is."""

    def by(self, failures: Failures) -> "Sample":
        """What is analysed of it under a plan's rule for failed runs."""
        if failures == "worst" or not self.failed:
            return self
        return self.at([seed for seed in self.seeds if seed not in self.failed])

    @property
    def merits(self) -> np.ndarray:
        """The scores, turned so that the larger is the better one."""
        return self.values if self.measure.higher_is_better else -self.values

    @property
    def step(self) -> float:
        """The smallest amount by which two scores can differ: one test image; 0 where it is not known."""
        return 100 / self.images if self.images else 0.0

    def at(self, seeds: Sequence[int]) -> "Sample":
        """The runs of some of its seeds."""
        places = {seed: place for place, seed in enumerate(self.seeds)}
        rows = [places[seed] for seed in seeds]
        kept = None if self.predicted is None else self.predicted[rows]
        failed = self.failed.intersection(seeds)
        return replace(self, seeds=tuple(seeds), values=self.values[rows], predicted=kept, failed=failed)

    @property
    def right(self) -> np.ndarray | None:
        """S x N, 100 where a run is right about an image, else 0; None where predictions are missing.

        A failed run counts as if it were right by chance about each image.
        """
        if self.predicted is None:
            return None
        found: np.ndarray = 100.0 * (self.predicted == self.labels)
        for row in (self.seeds.index(seed) for seed in self.failed):
            found[row] = self.values[row]
        return found
