"""The accuracy of an arm with its intervals, on a scale that ends at 0 and 100 %."""

import math

import numpy as np

from attnbench.analysis.laws import t_quantile
from attnbench.analysis.resampling import Values, bootstrap_variance
from attnbench.analysis.stats import ALPHA, Estimate, crossed_error, standard_error


def accuracy(values: Values, images: int) -> Estimate:
    """Mean accuracy over seeds with its 95 % interval; estimand: this test set.

    Args:
        values: S accuracies in percent.
        images: N, on which each was measured.
    """
    sample = np.asarray(values, float)
    mean, n = float(sample.mean()), len(sample)
    low, high = _between(mean, _error(sample, images), n - 1, n * images) if n > 1 else (math.nan, math.nan)
    return Estimate(mean, low, high, n)


def accuracy_on_new_images(right: np.ndarray) -> Estimate | None:
    """The same for the estimand new images; None for one seed.

    Args:
        right: S x N, 100 where the run of a seed was right about an image, else 0.
    """
    values, (n, images) = right.mean(1), right.shape
    if n < 2:
        return None
    mean, error = float(values.mean()), standard_error(values)
    return Estimate(mean, *_between(mean, *crossed_error(bootstrap_variance(right), error, n - 1, n), images), n)


def _error(values: np.ndarray, images: int) -> float:
    """Standard error over seeds; runs that agree to the image may still vary by half of one."""
    return max(standard_error(values), 100 * 0.5 / images / math.sqrt(len(values)))


def _between(mean: float, error: float, freedom: float, answers: int) -> tuple[float, float]:
    """Wilson's score interval (1927) in percent, with the effective number of answers and t's quantile.

    It is symmetric on the logit scale. The effective number is that of independent answers whose mean had the same
    standard error (Kott and Carr 1997); where all answers are right, or none is, it is the number given.
    """
    share, bound = mean / 100, t_quantile(1 - ALPHA / 2, freedom)
    apart = share * (1 - share)
    number = apart / (error / 100) ** 2 if apart > 0 else answers
    room = bound**2 / number
    half = bound * math.sqrt(apart / number + room / number / 4)
    low, high = ((share + room / 2 + side * half) / (1 + room) for side in (-1, 1))
    return 100 * max(low, 0.0), 100 * min(high, 1.0)
