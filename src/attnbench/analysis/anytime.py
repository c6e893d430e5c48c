"""p values and intervals that hold after every run: tests by betting on signs, where every run is a look.

Where two arms are alike, the difference of a run of each is as likely to be positive as negative, whatever its size.
A bet on the signs then gains nothing on average, and the chance that its capital ever grows 20-fold is at most 5 %
(Ville 1939); so 1 / capital is a p value at any time. The bet is on the sign of x_i = d_i / rms of d_1 .. d_i
with the odds exp(c x_i) / cosh(c x_i), a fair bet given |d_1| .. |d_i| and the signs before (Ramdas et al. 2020).
"""

import math
from collections.abc import Callable

import numpy as np

from attnbench.analysis.resampling import TIE, Values
from attnbench.analysis.sequential import Sides

STAKES = (0.5, 1.0)
"""The capital is divided over these c; chosen by simulation (docs/statistics.md)."""


def capital(differences: Values, sides: Sides = 2) -> np.ndarray:
    """What a bet has made of 1 after each difference: the mean over stakes, and over both signs where two-sided.

    Args:
        differences: N numbers in the order in which they came; or ... x N, many sequences at once.
        sides: 1 bets on positive differences only.
    """
    gaps = np.asarray(differences, float)
    counts = np.arange(1, gaps.shape[-1] + 1)
    scale = np.sqrt(np.cumsum(gaps**2, -1) / counts)
    steps = np.where(scale > 0, gaps / np.where(scale > 0, scale, 1.0), 0.0)
    bets = []
    for stake in STAKES:
        fair = np.cumsum(np.log(np.cosh(stake * steps)), -1)
        won = np.cumsum(stake * steps, -1)
        bets += [np.exp(sign * won - fair) for sign in ((1, -1) if sides == 2 else (1,))]
    found: np.ndarray = np.mean(bets, axis=0)
    return found


def any_time_p(differences: Values, sides: Sides = 2) -> list[float]:
    """p after each difference, true at any time: 1 / the most that the capital has been."""
    return [float(p) for p in 1 / np.maximum.accumulate(np.maximum(capital(differences, sides), 1.0))]


def any_time_equivalence_p(differences: Values, margin: float) -> list[float]:
    """p after each difference that the mean difference lies within the margin: the larger of two one-sided ones."""
    gaps = np.asarray(differences, float)
    return [max(pair) for pair in zip(any_time_p(margin - gaps, 1), any_time_p(margin + gaps, 1), strict=True)]


def confidence_sequence(differences: Values, level: float) -> tuple[float, float]:
    """The interval of the mean difference after the last one, true at any time: shifts that no bet ever refuted.

    Args:
        differences: N numbers in the order in which they came.
        level: the error that all times together may make.

    Returns:
        Two bounds; infinite where so few differences refute no shift, however large.
    """
    gaps = np.asarray(differences, float)
    middle, reach = float(gaps.mean()), float(np.ptp(gaps)) or float(np.abs(gaps).max()) or 1.0

    def refuted(shift: float) -> bool:
        return bool(capital(gaps - shift).max() >= 1 / level)

    low = high = middle
    if refuted(middle):  # as by runs that drift
        low, high = float(gaps.min()), float(gaps.max())
    return _bound(refuted, low, -reach), _bound(refuted, high, reach)


def _bound(refuted: Callable[[float], bool], start: float, step: float) -> float:
    """The end of the shifts from `start` on that are not refuted, to a millionth of the step."""
    inner, outer = start, start + step
    for _ in range(12):
        if refuted(outer):
            break
        inner, outer = outer, outer + 2 * (outer - start)
    else:
        return math.copysign(math.inf, step)
    while abs(outer - inner) > max(abs(step) * 1e-6, TIE):
        between = (inner + outer) / 2
        inner, outer = (inner, between) if refuted(between) else (between, outer)
    return outer
