"""Two networks on the same images: how far their accuracies lie apart, and whether that is less than matters."""

import math
from dataclasses import dataclass

import numpy as np

from attnbench.analysis.stats import ALPHA


@dataclass(frozen=True)
class Change:
    """How much more accurate one network is than another on the same images: percentage points, 90 % interval.

    Estimand: these two networks, weights and all, on new images like these. Both bounds inside a margin are two
    one-sided tests at 5 % each (Schuirmann 1987).
    """

    accuracy: float
    """Of the one, in percent."""
    other: float
    """Of the other, in percent."""
    low: float
    high: float
    gained: int
    """Images that the one alone is right on."""
    lost: int
    """Images that the other alone is right on."""
    images: int

    @property
    def mean(self) -> float:
        """The difference in percentage points."""
        return self.accuracy - self.other

    def within(self, margin: float) -> bool:
        """Whether the tests say that the difference is smaller than `margin` points, either way."""
        return -margin < self.low and self.high < margin


def change(right: np.ndarray, other: np.ndarray) -> Change:
    """The difference of two networks' accuracies on the same images, with Tango's score interval.

    The images are pairs: most are right, or wrong, under both networks, and only the others tell them apart. An
    interval for two independent samples would be several times too wide; Wald's interval of the pairs has no width
    where no answer differs, however few images there are. Tango (1998, Statistics in Medicine 17:891) inverts the score
    test of a given difference, which keeps a width there and holds near its level for tens of images.

    Args:
        right, other: bool N, whether each network is right on each image; N at least 1.
    """
    gained, lost, images = int((right & ~other).sum()), int((other & ~right).sum()), len(right)
    low, high = (100 * bound for bound in interval(gained, lost, images))
    return Change(100 * float(right.mean()), 100 * float(other.mean()), low, high, gained, lost, images)


def interval(gained: int, lost: int, images: int, level: float = 2 * ALPHA) -> tuple[float, float]:
    """The differences of two paired shares that Tango's test does not reject.

    Args:
        gained, lost: pairs in which the one alone, or the other alone, is a success.
        level: 1 - the level of the interval; each bound is a one-sided test at half of it.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    quantile, estimate = float(ndtri(1 - level / 2)), (gained - lost) / images

    def bound(end: float, beyond: float) -> float:
        if estimate == end:
            return end
        return float(brentq(lambda gap: score(gained, lost, images, gap) - beyond, estimate, end, xtol=1e-10))

    return bound(-1.0, quantile), bound(1.0, -quantile)


def score(gained: int, lost: int, images: int, gap: float) -> float:
    """How many standard errors the observed difference of two paired shares lies above `gap` (Tango 1998, equation 5).

    The standard error is that under `gap`, with the share of lost pairs at its most likely value.
    """
    whole = 2 * images
    middle = -gained - lost + (whole - gained + lost) * gap
    share = (math.sqrt(max(middle**2 + 4 * whole * lost * gap * (1 - gap), 0.0)) - middle) / (2 * whole)
    variance = images * (2 * share + gap * (1 - gap))
    excess = gained - lost - images * gap
    if variance <= 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)
