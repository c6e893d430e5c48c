"""The tests of the statistics find mistakes: each one below, made in a copy of the package, fails the test it names."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import HANG, ROOT


@dataclass(frozen=True)
class Mutation:
    """A mistake in one place of a file, and the tests that must find it."""

    says: str
    file: str
    old: str
    new: str
    tests: str
    """test_FILE::what the names of some tests in it hold."""


RULE = "if p < ALPHA and not gap.low <= 0 <= gap.high:"
WELCH = "error = np.sqrt(one.var(0, ddof=1) / len(one) + two.var(0, ddof=1) / len(two))"
POOLED = "error = np.sqrt((len(one) * one.var(0) + len(two) * two.var(0)) / len(one) / len(two))"
FREEDOM = "freedom = error**2 / sum(s**2 / (len(sample) - 1) for s, sample in zip(shares, (one, two), strict=True))"
TOST = "stdtr(freedom, (abs(gap) - margin) / error)"
PAIRS_P = 'sign_flip_p(one - two) if pairing == "paired" else permutation_p(one, two)'
NEW = "new_images=_new_images(one, two, plan.pairing),"
GAPS = "difference(one.values, two.values, plan.pairing)"

MISTAKES = [
    Mutation(
        "the difference has the other sign",
        "analysis/stats.py",
        "gap = float(one.mean() - two.mean())",
        "gap = float(two.mean() - one.mean())",
        "test_verdicts::better_and_worse",
    ),
    Mutation(
        "Holm's correction returns what it was given",
        "analysis/stats.py",
        "np.minimum(steps, 1.0)",
        "given[order]",
        "test_verdicts::alone_may_be_undecided",
    ),
    Mutation(
        "new images have the interval of this test set",
        "analysis/verdicts.py",
        "crossed(bootstrap_variance(*drawn), ",
        "crossed(0.0, ",
        "test_verdicts::drawn_as_the_plan_says",
    ),
    Mutation(
        "this test set has the interval of new images",
        "analysis/verdicts.py",
        "difference=gap,",
        "difference=_new_images(one, two, plan.pairing),",
        "test_verdicts::drawn_as_the_plan_says",
    ),
    Mutation("p is of the pooled t", "analysis/resampling.py", WELCH, POOLED, "test_resampling::scipys_with_welchs_t"),
    Mutation(
        "equivalence asks only whether the arm is not far below",
        "analysis/stats.py",
        TOST,
        "stdtr(freedom, -(margin + gap) / error)",
        "test_verdicts::better_and_worse",
    ),
    Mutation(
        "pairs are analysed as independent",
        "analysis/verdicts.py",
        GAPS,
        "difference(one.values, two.values)",
        "test_verdicts::pairs_are_the_seeds",
    ),
    Mutation(
        "regroupings that tie do not count",
        "analysis/resampling.py",
        "* (1 - TIE) - TIE",
        "* (1 + TIE) + TIE",
        "test_resampling::ties_between_regroupings",
    ),
    Mutation(
        "a tie is no half win",
        "analysis/stats.py",
        "(below + 0.5 * (reached - below))",
        "below",
        "test_stats::share_of_pairs_won",
    ),
    Mutation(
        "the seeds of pairs are drawn one by one",
        "analysis/verdicts.py",
        'drawn = (rights[0] - rights[1],) if self.pairing == "paired" else rights',
        "drawn = rights",
        "test_verdicts::pairs_cancel",
    ),
    Mutation(
        "two picked arms are a single comparison",
        "analysis/pairs.py",
        "p_value=max(alone.p_value, p))",
        "p_value=alone.p_value)",
        "test_pairs::games_and_howells",
    ),
]

SLOW = pytest.mark.slow
MORE = [
    Mutation(
        "equivalence asks only whether the arm is not far above",
        "analysis/stats.py",
        TOST,
        "stdtr(freedom, -(margin - gap) / error)",
        "test_verdicts::better_and_worse",
    ),
    Mutation(
        "a small p is enough",
        "analysis/verdicts.py",
        RULE,
        "if p < ALPHA:",
        "test_verdicts::small_p_alone",
    ),
    Mutation(
        "an interval without zero is enough",
        "analysis/verdicts.py",
        RULE,
        "if not gap.low <= 0 <= gap.high:",
        "test_verdicts::interval_without_zero_alone",
    ),
    Mutation(
        "equivalence is not corrected",
        "analysis/verdicts.py",
        "equal = holm([",
        "equal = list([",
        "test_verdicts::alone_may_be_undecided",
    ),
    Mutation(
        "Holm's correction is Bonferroni's",
        "analysis/stats.py",
        "np.arange(len(given), 0, -1)",
        "len(given)",
        "test_stats::of_statsmodels",
    ),
    Mutation(
        "p is of the bare difference",
        "analysis/resampling.py",
        WELCH,
        "error = gap**0",
        "test_resampling::scipys_with_welchs_t",
    ),
    Mutation(
        "the interval has the pooled degrees of freedom",
        "analysis/stats.py",
        FREEDOM,
        "freedom = len(one) + len(two) - 2",
        "test_stats::scipys_interval",
    ),
    Mutation(
        "pairs are regrouped", "analysis/stats.py", PAIRS_P, "permutation_p(one, two)", "test_stats::without_any_spread"
    ),
    Mutation(
        "signs that tie do not count",
        "analysis/resampling.py",
        "- TIE * np.abs(gaps).sum()",
        "+ TIE * np.abs(gaps).sum()",
        "test_resampling::all_go_one_way",
    ),
    Mutation(
        "the images of two arms are drawn apart",
        "analysis/resampling.py",
        " - 2 * together / len(images)",
        "",
        "test_resampling::same_images",
    ),
    Mutation(
        "an accuracy has the interval of as many independent answers",
        "analysis/accuracies.py",
        "apart / (error / 100) ** 2 if apart > 0 else answers",
        "answers",
        "test_accuracies::wilsons",
    ),
    Mutation(
        "arms with little spread by chance count as sure",
        "analysis/pairs.py",
        "math.sqrt(12 * float(np.median(variances)))",
        "0.0",
        "test_pairs::below_the_middle",
    ),
    Mutation(
        "an arm is out of the best set by a single t test",
        "analysis/best.py",
        "return dunnett_p(gap, error, freedom, rivals) < level",
        "return alone < level",
        "test_best::truly_best",
    ),
    Mutation(
        "the luck of the largest is one standard error",
        "analysis/best.py",
        "return unit * float(quad(excess, 0, 10)[0])",
        "return unit",
        "test_best::order_statistics",
    ),
    Mutation(
        "the chance in a calibration error cancels over bins",
        "store/predictions.py",
        "100 * float(_mean_size(chance).sum())",
        "100 * float(_mean_size(chance.sum()))",
        "test_predictions::calibrated_network",
    ),
    Mutation(
        "few seeds make the bootstrap too sure",
        "analysis/stats.py",
        "whole = variance + error**2 / n",
        "whole = variance",
        "test_stats::images_add_nothing",
    ),
    Mutation(
        "new images have a normal interval",
        "analysis/stats.py",
        "whole**2 * freedom / error**4 if error > 0 else math.inf",
        "math.inf",
        "test_stats::satterthwaites",
    ),
    Mutation(
        "the spread is taken as known",
        "analysis/power.py",
        "spread * _quantiles_of_truth(freedom)",
        "spread * np.ones(40)",
        "test_power::eighty_percent",
    ),
    Mutation(
        "further seeds forget equivalence",
        "analysis/power.py",
        "min(_assurance(",
        "max(_assurance(",
        "test_power::eighty_percent",
    ),
    Mutation(
        "power is one-sided",
        "analysis/power.py",
        "1 - ALPHA / family / 2",
        "1 - ALPHA / family",
        "test_power::found_as_often_as_stated",
    ),
    Mutation(
        "Brier's score lacks a cross term", "store/predictions.py", "2 * of_true", "of_true", "test_predictions::sure"
    ),
    Mutation(
        "calibration errors cancel",
        "store/predictions.py",
        "np.abs(reliability[1] - reliability[2])",
        "(reliability[1] - reliability[2])",
        "test_predictions::naive_loop",
    ),
]


def copied(folder: Path) -> Path:
    """A copy of the package, to be found before the package itself."""
    shutil.copytree(ROOT / "src" / "attnbench", folder / "attnbench", ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "attnbench"


QUIET = ["-W", "ignore::pytest.PytestConfigWarning"]
"""Without plugins, pytest does not know the option that limits a test's time."""


def judged(package: Path, selected: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run the selected tests on that copy, without plugins: most of the time goes into starting."""
    files, names = zip(*(each.split("::") for each in selected), strict=True)
    paths = [ROOT / "tests" / f"{file}.py" for file in sorted(set(files))]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *QUIET, *map(str, paths)]
    env = {**os.environ, "PYTHONPATH": str(package.parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    selection = ["-k", " or ".join(sorted(set(names)))]
    return subprocess.run([*command, *selection], capture_output=True, text=True, env=env, timeout=HANG)


def names(mutation: Mutation) -> str:
    return mutation.says.replace(" ", "-")


def test_the_copy_without_a_mistake_passes():
    """Every test that finds one: so it is the mistake that fails it."""
    told = judged(copied(Path()), [mutation.tests for mutation in [*MISTAKES, *MORE]])
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("mutation", [*MISTAKES, *(pytest.param(one, marks=SLOW) for one in MORE)], ids=names)
def test_the_suite_finds_that(mutation):
    package = copied(Path())
    file = package / mutation.file
    right = file.read_text()
    assert right.count(mutation.old) == 1, f"{mutation.file} has another text by now: {mutation.old}"
    file.write_text(right.replace(mutation.old, mutation.new))
    told = judged(package, [mutation.tests])
    assert told.returncode == 1, f"nothing found that {mutation.says}:\n{told.stdout}{told.stderr}"
