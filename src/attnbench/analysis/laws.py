"""Quantiles and tails of the laws behind the tests, by scipy.special: importing scipy.stats takes as long as a page."""

import functools

import numpy as np


def t_quantile(share: float, freedom: float) -> float:
    """The value that Student's t stays below in a share of all cases."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def chi2_quantile(share: float | np.ndarray, freedom: float) -> np.ndarray:
    """The value, or the values, that chi squared stays below in a share of all cases."""
    from scipy.special import gammaincinv

    return np.asarray(2 * gammaincinv(freedom / 2, share))


def noncentral_t_tail(bound: float, freedom: float, shift: np.ndarray) -> np.ndarray:
    """Probability that the noncentral t exceeds a bound, for each shift."""
    from scipy.special import nctdtr

    return np.asarray(1 - nctdtr(freedom, shift, bound))


@functools.lru_cache(maxsize=4096)
def measured_spread(freedom: float, places: int) -> np.ndarray:
    """Measured over true standard deviation at so many equally likely places."""
    found: np.ndarray = np.sqrt(chi2_quantile((np.arange(places) + 0.5) / places, freedom) / freedom)
    return found
