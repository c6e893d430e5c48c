"""The statistics of a report by numpy, scipy and scikit-learn, from the stored files and without our code."""

import itertools
import math
import re

import numpy as np
import pytest
from made import Arm, Shown, shared
from scipy import integrate, optimize, special, stats
from sklearn import metrics
from statsmodels.stats.meta_analysis import combine_effects

FIRST = 0.8
"""The part of the error that the first look of a study without planned looks spends."""


# Statistics by numpy, scipy and scikit-learn


def student(values) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    mean = float(np.mean(values))
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    return mean, float(low), float(high)


def wilson(mean: float, error: float, freedom: float, answers: int) -> tuple[float, float, float]:
    """Of an accuracy the interval's ends, each t standard errors of its own away: the roots of a square.

    So many independent answers have that standard error; where it is 0, or all are right, it is their number.
    """
    share, bound = mean / 100, stats.t.ppf(0.975, freedom)
    number = share * (1 - share) / (error / 100) ** 2 if 0 < share < 1 else answers
    low, high = sorted(np.roots([1 + bound**2 / number, -2 * share - bound**2 / number, share**2]))
    return mean, 100 * float(low), 100 * float(high)


def accuracy(arm: Arm) -> tuple[float, float, float]:
    """Mean over seeds and its interval for this test set; runs that agree may still vary by half an image."""
    seeds, images = arm.right.shape
    error = max(float(stats.sem(arm.accuracy)), 50 / images / math.sqrt(seeds))
    return wilson(float(arm.accuracy.mean()), error, seeds - 1, seeds * images)


def t_test(one, two, pairing: str = "independent", **side):
    return (
        stats.ttest_rel(one, two, **side) if pairing == "paired" else stats.ttest_ind(one, two, equal_var=False, **side)
    )


def between(one, two, pairing: str = "independent", part: float = 1.0) -> tuple[float, float, float]:
    """Difference of means and its 95 % interval; that of a look which spends a part of the error is wider."""
    gap = float(np.mean(one) - np.mean(two))
    if np.ptp(one) == np.ptp(two) == 0:
        return gap, gap, gap
    half = stats.t.ppf(1 - 0.025 * part, freedom(one, two, pairing)) * error(one, two, pairing)
    return gap, float(gap - half), float(gap + half)


def error(one, two, pairing: str = "independent") -> float:
    """Standard error of the difference of means."""
    return float(stats.sem(one - two) if pairing == "paired" else math.hypot(stats.sem(one), stats.sem(two)))


def freedom(one, two, pairing: str = "independent") -> float:
    """Satterthwaite's degrees of freedom; the smaller arm's where the arms are not of equal size."""
    return float(t_test(one, two, pairing).df) if len(one) == len(two) else min(len(one), len(two)) - 1


def exact_p(one, two, pairing: str) -> float:
    """The larger p of the t test and of every regrouping, or that of every flip of the pairs' signs; ties count."""
    if pairing == "paired":
        sums = np.abs(np.array(list(itertools.product([-1, 1], repeat=len(one)))) @ (one - two))
        return float(np.mean(sums >= abs(np.sum(one - two)) - 1e-9))
    pooled, n = np.concatenate([one, two]), len(one)
    firsts = itertools.combinations(range(len(pooled)), n)
    drawn = pooled[[[*first, *({*range(len(pooled))} - {*first})] for first in firsts]]
    sizes = np.abs(stats.ttest_ind(drawn[:, :n], drawn[:, n:], axis=1, equal_var=False).statistic)
    by_t = 2 * stats.t.sf(abs(t_test(one, two).statistic), freedom(one, two))
    return max(float(by_t), float(np.mean(sizes >= abs(t_test(one, two).statistic) * (1 - 1e-9))))


def same_p(one, two, margin: float, pairing: str) -> float:
    """Two one-sided t tests: the larger p."""
    room = (margin - abs(np.mean(one) - np.mean(two))) / error(one, two, pairing)
    return float(stats.t.sf(room, freedom(one, two, pairing)))


def later_level(first: int, now: int, level: float, sides: int) -> float:
    """Of a second look's own test, where the first spent 0.8 of the level over both and it may spend 0.1 of that."""
    bound, r = stats.norm.isf(level * FIRST / sides), math.sqrt(first / now)
    low, rest = (-bound if sides == 2 else -9), math.sqrt(1 - first / now)

    def too_much(second: float) -> float:
        def both(z: float) -> float:
            above, below = stats.norm.sf((second - r * z) / rest), stats.norm.cdf((-second - r * z) / rest)
            return stats.norm.pdf(z) * (above + below * (sides == 2))

        return integrate.quad(both, low, bound)[0] - (1 - FIRST) / 2 * level

    return sides * float(stats.norm.sf(optimize.brentq(too_much, 0, 8)))


def holm(given: list[float], part: float = 1.0) -> list[float]:
    """Over a family, at a look that spends a part of the error."""
    given = [min(1.0, p / part) for p in given]
    order = sorted(range(len(given)), key=given.__getitem__)
    stepped = np.maximum.accumulate([given[place] * (len(given) - rank) for rank, place in enumerate(order)])
    return [min(1.0, float(stepped[order.index(place)])) for place in range(len(given))]


def own_variance(right: np.ndarray) -> float:
    """The crossed bootstrap's variance of a mean, in closed form.

    With p the seeds' shares in a draw, E[p p'] = (identity + 1 - 1 / S) / S^2, and the same for images.
    """
    x, (seeds, images) = right - right.mean(), right.shape
    rows, columns = (1 - 1 / images) * (x.sum(1) ** 2).sum(), (1 - 1 / seeds) * (x.sum(0) ** 2).sum()
    return float((x**2).sum() + rows + columns) / (seeds * images) ** 2


def new_images(one: Arm, two: Arm | None = None, pairing: str = "independent") -> tuple[float, float, float]:
    """Mean and its interval for new images; the images of a draw are shared, the seeds only by pairs."""
    if two is None or pairing == "paired":
        rows, others = shared(one, two) if two else ([*range(len(one.seeds))], [])
        right = one.right[rows] - (two.right[others] if two else 0)
        mean, spread, apart, many = right.mean(), own_variance(right), stats.sem(right.mean(1)), float(len(rows) - 1)
    else:
        rows, profiles = (
            min(one.seeds, two.seeds, key=len),
            [arm.right.mean(0) - arm.right.mean() for arm in (one, two)],
        )
        together = float(profiles[0] @ profiles[1]) / len(one.labels) ** 2
        spread = own_variance(one.right) + own_variance(two.right) - 2 * together
        mean, many = one.right.mean() - two.right.mean(), freedom(one.accuracy, two.accuracy)
        apart = error(one.accuracy, two.accuracy)
    variance = spread + apart**2 / len(rows)
    whole, mean = variance**2 * many / apart**4, float(mean)
    if two is None:
        return wilson(mean, math.sqrt(variance), whole, len(one.labels))
    half = float(stats.t.ppf(0.975, whole) * math.sqrt(variance))
    return mean, mean - half, mean + half


def superiority(strata) -> tuple[float, float, float]:
    """P(A > B) with Newcombe's method 5, whose equation is solved as a polynomial."""
    gaps = [np.subtract.outer(one, two) for one, two in strata]
    found, theta = float(np.mean([((gap > 0) + (gap == 0) / 2).mean() for gap in gaps])), np.poly1d([1, 0])
    down, up, z = 2 - theta, 1 + theta, float(stats.norm.ppf(0.975)) / len(strata)
    spread = 0 * theta
    for gap in gaps:
        spread += (down * up + (sum(gap.shape) / 2 - 1) * ((1 - theta) * up + theta * down)) * (1 / gap.size)
    roots = ((theta - found) ** 2 * down * up - z**2 * theta * (1 - theta) * spread).roots
    real = roots[np.abs(roots.imag) < 1e-9].real
    low, high = ([root for root in real if 1e-9 < side * (root - found) <= 1] for side in (-1, 1))
    return found, max(low) if found > 0 else 0.0, min(high) if found < 1 else 1.0


def over(pairs: list, pairing: str) -> tuple[tuple, tuple[float, float]]:
    """On all data sets, for data sets like these (both with interval), and tau; the p values of the two.

    Every regrouping within the data sets is counted, and variances are moderated as docs/statistics.md says.
    """
    gaps, errors, freedoms = np.array([_told(one, two, pairing) for one, two in pairs]).T
    k, total = len(pairs), float((errors**2).sum())
    freedom = total**2 / float((errors**4 / freedoms).sum())
    half = stats.t.ppf(1 - 0.025 * FIRST, freedom) * math.sqrt(total) / k
    welch = 2 * stats.t.sf(abs(gaps.sum()) / math.sqrt(total), freedom)
    p = max(welch, _regrouped(pairs) if pairing == "independent" else _flipped(pairs))
    share = 4 / (4 + freedoms)
    theirs = combine_effects(
        gaps, share * np.mean(errors**2) + (1 - share) * errors**2, method_re="iterated", atol=1e-7
    )
    error = max(theirs.sd_eff_w_re, theirs.sd_eff_w_re_hksj)
    mean, wide = theirs.mean_effect_re, stats.t.ppf(1 - 0.025 * FIRST, k - 1) * error
    statements = ((gaps.mean(), gaps.mean() - half, gaps.mean() + half), (mean, mean - wide, mean + wide))
    return (*statements, math.sqrt(theirs.tau2)), (
        min(1.0, p / FIRST),
        min(1.0, 2 * stats.t.sf(abs(mean) / error, k - 1) / FIRST),
    )


def _told(one, two, pairing: str) -> tuple[float, float, float]:
    """A difference, its standard error and degrees of freedom."""
    found = t_test(one, two, pairing)
    unequal = pairing == "independent" and len(one) != len(two)  # Satterthwaite promises too much then
    freedom = min(len(one), len(two)) - 1 if unequal else found.df
    return np.mean(one) - np.mean(two), (np.mean(one) - np.mean(two)) / found.statistic, freedom


def _regrouped(pairs: list) -> float:
    sums = np.zeros(1)
    for one, two in pairs:
        pooled = np.concatenate([one, two])
        firsts = np.array([*itertools.combinations(range(len(pooled)), len(one))])
        own = pooled[firsts].mean(1) - (pooled.sum() - pooled[firsts].sum(1)) / len(two)
        sums = np.add.outer(sums, own).ravel()
    return float(np.mean(np.abs(sums) >= abs(sum(np.mean(one) - np.mean(two) for one, two in pairs)) - 1e-9))


def _flipped(pairs: list) -> float:
    gaps = np.concatenate([(one - two) / len(one) for one, two in pairs])
    return exact_p(gaps, np.zeros(len(gaps)), "paired")


def recalls(labels, predicted) -> np.ndarray:
    return 100 * metrics.recall_score(labels, predicted, labels=np.unique(labels), average=None)


def scored(arm: Arm) -> np.ndarray:
    """Each seed's scores from its logits, five rows."""
    found, truth = [], np.eye(arm.logits.shape[2])[arm.labels]
    for logits, predicted in zip(arm.logits.astype(float), arm.predicted, strict=True):
        shares, right = special.softmax(logits, 1), predicted == arm.labels
        bins = np.digitize(shares.max(1), np.arange(1, 15) / 15)
        off = sum(abs((shares.max(1) - right)[bins == place].sum()) for place in range(15)) / len(bins)
        losses = -(special.log_softmax(logits, 1) * truth).sum(1).mean(), ((shares - truth) ** 2).sum(1).mean()
        f1 = metrics.f1_score(arm.labels, predicted, average="macro")
        found.append([*losses, 100 * off, 100 * f1, recalls(arm.labels, predicted).mean()])
    return np.array(found).T


def if_calibrated(arm: Arm) -> float:
    """Calibration error that chance alone makes, mean over seeds: of each bin the mean size of a normal error.

    Never more than the sizes of the single answers' own errors together, of which each is 2 p (1 - p) in the mean.
    """
    found = []
    for logits in arm.logits.astype(float):
        confidence = special.softmax(logits, 1).max(1)
        bins = np.digitize(confidence, np.arange(1, 15) / 15)
        spreads = [stats.bernoulli(confidence[bins == place]).var().sum() for place in range(15)]
        sizes = [min(float(stats.halfnorm.mean(scale=math.sqrt(spread))), 2 * spread) for spread in spreads if spread]
        found.append(100 * sum(sizes) / len(confidence))
    return float(np.mean(found))


def gap(shown: Shown, cell: dict[str, Arm], name: str) -> tuple[float, float, float]:
    """A mechanism's difference to the baseline, as its verdict has it: at the first look."""
    return between(*shown.pair(cell[name], cell["none"]), shown.pairing, FIRST)


def families(shown: Shown, cell: dict[str, Arm]) -> dict[str, tuple[float, float]]:
    """Both of Holm's p values of each arm but the baseline."""
    others = [name for name in cell if name != "none"]
    pairs = [shown.pair(cell[name], cell["none"]) for name in others]
    apart = holm([exact_p(*pair, shown.pairing) for pair in pairs], FIRST)
    alike = holm([same_p(*pair, shown.margin, shown.pairing) for pair in pairs], FIRST)
    return dict(zip(others, zip(apart, alike, strict=True), strict=True))


def verdict(shown: Shown, cell: dict[str, Arm], name: str) -> tuple[str, bool]:
    """The rule of the protocol, and whether equivalence passes."""
    (apart, alike), (mean, low, high) = families(shown, cell)[name], gap(shown, cell, name)
    if apart < 0.05 and (low > 0 or high < 0):
        return "better" if mean > 0 else "worse", alike < 0.05
    pair = shown.pair(cell[name], cell["none"])
    n, others = max(map(len, pair)), len(cell) - 1
    smallest = 2 / 2**n if shown.pairing == "paired" else 2 / math.comb(2 * n, n)
    could_differ = smallest * others < 0.05 * FIRST
    return "equivalent" if alike < 0.05 and could_differ else "undecided", alike < 0.05


def shows(said: str, *expected: float, places: int = 2) -> None:
    """The text's numbers are the expected ones, each rounded to so many places."""
    found = re.findall(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?", said)
    assert {len(number.partition(".")[2]) for number in found} <= {places}, said
    values = [float(number.replace(",", "")) for number in found]
    assert values == pytest.approx(expected, abs=0.5001 * 10**-places), said


def says_p(said: str, p: float) -> bool:
    return said == ("< 0.001" if p < 0.001 else f"{p:.3f}")


def same(found: list[dict], expected: list[dict]) -> None:
    """Rows of a figure, whose numbers have six digits."""
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        near = {name: pytest.approx(v, rel=1e-5, abs=1e-9) if isinstance(v, float) else v for name, v in two.items()}
        assert one == near


def span(numbers: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), numbers, strict=True))


def log_seconds(arm: Arm) -> np.ndarray:
    """Of each run's CPU time in training."""
    return np.log([sum(point["cpu_seconds"] for point in record["curves"]) for record in arm.records])


def mean_seconds(arm: Arm) -> float:
    return float(np.exp(log_seconds(arm).mean()))


def steps(shown: Shown, cell: dict[str, Arm]) -> list[tuple]:
    """What the controls say: mechanism, part, what is compared, the difference with its interval, n.

    The parts of a gain are taken from the runs that it is the difference of, so that they add up to it.
    """
    found, runs = [], {name: arm.accuracy for name, arm in cell.items()}
    for name, random in (("se", "random"), ("cbam", 'random(of="cbam")')):
        gained = runs | dict(zip((name, "none"), shown.pair(cell[name], cell["none"]), strict=True))
        parts = {"scale": ("constant", "none", gained), "parameters": ("static", "constant", gained),
                 "input dependence": (name, "static", gained),
                 "training the mechanism": (name, random, runs)}  # fmt: skip
        for part, (one, two, of) in parts.items():
            n = min(len(of[one]), len(of[two]))
            found.append((name, part, f"{one} - {two}", between(of[one], of[two]), n))
        for gates, words in (("shuffled", "gates of other images"), ("mean", "mean gates of the training images")):
            pairs = zip(cell[name].gates, cell[name].accuracy, strict=True)
            gaps = [own[gates] - accuracy for own, accuracy in pairs if gates in own]
            if gaps:
                found.append((name, f"gate {gates}", f"{name} with the {words} - its own", student(gaps), len(gaps)))
    return found
