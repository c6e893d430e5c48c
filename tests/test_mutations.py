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
TOST = "stdtr(freedom, (abs(gap) - margin) / error)"
SATTERTHWAITE = "(len(one) - 1) * sum(shares) ** 2 / sum(share**2 for share in shares)"
BOTH = "max(permutation_p(one, two), t_p(one, two, unit=unit))"
LEVEL = "level = nominal_level(self._information(), self.spending.parts, ALPHA, 2)"

MISTAKES = [
    Mutation(
        "the difference has the other sign",
        "analysis/stats.py",
        "float(one.mean() - two.mean())",
        "float(two.mean() - one.mean())",
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
        "a verdict's p is of the permutation test alone",
        "analysis/course.py",
        "return max(exact, self._over(",
        "return min(exact, 1 + self._over(",
        "test_verdicts::two_seeds_above_eight",
    ),
    Mutation(
        "arms of unequal size have the degrees of freedom of both",
        "analysis/stats.py",
        "return gap, error, min(len(one), len(two)) - 1",
        "return gap, error, len(one) + len(two) - 2",
        "test_stats::arms_of_unequal_size",
    ),
    Mutation(
        "new images forget that images vary",
        "analysis/verdicts.py",
        "crossed(bootstrap_variance(*drawn), ",
        "crossed(0.0, ",
        "test_verdicts::drawn_as_the_plan_says",
    ),
    Mutation(
        "an interval is of one look alone",
        "analysis/course.py",
        LEVEL,
        "level = (ALPHA)",
        "test_sequential::interval_of_an_early_look",
    ),
    Mutation(
        "the seeds of pairs are drawn one by one",
        "analysis/verdicts.py",
        'drawn = (rights[0] - rights[1],) if self.pairing == "paired" else rights',
        "drawn = rights",
        "test_verdicts::pairs_cancel",
    ),
    Mutation(
        "p is of a t with the arms' spreads changed about",
        "analysis/resampling.py",
        "/ (k * (k - 1))",
        "/ ((n + m - k) * (k - 1))",
        "test_resampling::scipys_with_welchs_t",
    ),
    Mutation(
        "equivalence asks only whether the arm is not far below",
        "analysis/stats.py",
        TOST,
        "stdtr(freedom, (-gap - margin) / error)",
        "test_verdicts::better_and_worse",
    ),
    Mutation(
        "pairs are analysed with the seeds of both",
        "analysis/verdicts.py",
        "pairs = matched if plan.matched else [",
        "pairs = [",
        "test_verdicts::pairs_are_the_seeds",
    ),
    Mutation(
        "regroupings that tie do not count",
        "analysis/resampling.py",
        "(1 - TIE) - TIE).mean()",
        "(1 + TIE) + TIE).mean()",
        "test_resampling::ties_between_regroupings",
    ),
    Mutation(
        "a tie is no half win",
        "analysis/stats.py",
        "below + 0.5 * (reached - below)",
        "below",
        "test_stats::share_of_pairs_won",
    ),
    Mutation(
        "a first look without a plan spends everything",
        "analysis/sequential.py",
        "FIRST = 0.8",
        "FIRST = 1.0",
        "test_sequential::open_looks_never_do",
    ),
    Mutation(
        "two that were picked are a single comparison",
        "analysis/pairs.py",
        "pairs, any_time = math.comb(len(arms), 2)",
        "pairs, any_time = 1",
        "test_pairs::of_twenty_190",
    ),
    Mutation(
        "an accuracy has Student's interval",
        "analysis/accuracies.py",
        "room = bound**2 / number",
        "room = 0 * bound",
        "test_accuracies::is_wilsons",
    ),
]

SLOW = pytest.mark.slow
MORE = [
    Mutation(
        "equivalence asks only whether the arm is not far above",
        "analysis/stats.py",
        TOST,
        "stdtr(freedom, (gap - margin) / error)",
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
        "gap / np.sqrt(np.maximum(error, FLAT**2))",
        "gap",
        "test_resampling::scipys_with_welchs_t",
    ),
    Mutation(
        "the interval has the pooled degrees of freedom",
        "analysis/stats.py",
        SATTERTHWAITE,
        "2 * len(one) - 2",
        "test_stats::scipys_interval",
    ),
    Mutation(
        "a difference has the p of the permutation test alone",
        "analysis/stats.py",
        BOTH,
        "permutation_p(one, two)",
        "test_stats::larger_one",
    ),
    Mutation(
        "pairs are regrouped",
        "analysis/stats.py",
        f'sign_flip_p(one - two) if pairing == "paired" else {BOTH}',
        "permutation_p(one, two)",
        "test_stats::without_any_spread",
    ),
    Mutation(
        "two seeds may be equivalent", "analysis/stats.py", "FEWEST = 3", "FEWEST = 2", "test_stats::never_equivalent"
    ),
    Mutation(
        "values that tie have no spread", "analysis/stats.py", "unit**2 / 12", "0.0", "test_stats::spread_of_rounding"
    ),
    Mutation(
        "each arm has test images of its own",
        "analysis/resampling.py",
        "- 2 * together / len(images)",
        "",
        "test_resampling::with_the_same_images",
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
        "every look spends everything",
        "analysis/sequential.py",
        "np.diff(self.spent, prepend=0.0)",
        "np.ones(len(self.spent))",
        "test_sequential::interval_of_an_early_look",
    ),
    Mutation(
        "a later look forgets which regroupings have crossed",
        "analysis/sequential.py",
        "left = left[left[:, look] <= bound]",
        "left = left[:]",
        "test_sequential::smallest_level_that_crosses",
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
        "return float(np.mean(_equivalent(self.margin, errors, freedom, same))) >= POWER",
        "return True",
        "test_power::eighty_percent",
    ),
    Mutation(
        "power is one-sided",
        "analysis/power.py",
        "t_quantile(1 - level / 2, freedom)",
        "t_quantile(1 - level, freedom)",
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
