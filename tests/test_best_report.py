"""The best of many arms in a report, warnings corrected over arms, and intervals that exclude 0 beside no verdict."""

import csv
from collections.abc import Mapping
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from handmade import record
from scipy import stats as oracle

from attnbench import compare
from attnbench.analysis.best import best_of
from attnbench.analysis.cells import Cell, cell_of
from attnbench.analysis.measure import Measure
from attnbench.analysis.plan import Plan
from attnbench.analysis.sample import Sample
from attnbench.report import html, markdown
from attnbench.report.best import best_sentence
from attnbench.report.latex import table, tex
from attnbench.report.sentences import sentence
from attnbench.report.tables import write_csv

RNG = np.random.default_rng(2)
NOISE = RNG.permuted(np.tile([-0.5, -0.3, -0.1, 0.1, 0.3, 0.5], (8, 1)), axis=1)
"""Eight arms of the same spread."""
LEVELS = {"none": 0.0, "constant": 9.0, "se": 3.0, "cbam": 2.9, "eca": 0.1}
PLANS = [Plan(looks=(6,)), Plan(looks=(6,), pairing="paired"), Plan(looks="any"), Plan()]


def study(levels: Mapping[str, float] = LEVELS, plan: Plan = PLANS[0], seeds: int = 6):
    runs = [
        record(arm, seed, 90 + level + NOISE[place][seed])
        for place, (arm, level) in enumerate(levels.items())
        for seed in range(seeds)
    ]
    return compare(runs, plan=plan)


def scored(values: Mapping[str, np.ndarray], plan: Plan = PLANS[0], measure: Measure | None = None) -> Cell:
    measure = measure or Measure()
    samples = {name: Sample(name, tuple(range(len(own))), own, measure=measure) for name, own in values.items()}
    return cell_of("x", samples, plan)


# The best


def test_controls_are_no_candidates_and_the_plain_network_is_one():
    found = best_of(study().cells[0])
    assert set(found.candidates) == {"none", "se", "cbam", "eca"}
    assert found.among == ("se", "cbam")
    assert found.rivals == 3


def test_the_luck_is_that_of_the_largest_of_the_rivals_means_at_the_middle_spread():
    """0.846 standard errors for three; a median of variances is freed of its bias."""
    (cell,) = study().cells
    spread = NOISE[0].var(ddof=1) * 5 / oracle.chi2.median(5)
    expected = oracle.norm.expect(lambda x: 3 * x * oracle.norm.cdf(x) ** 2) * np.sqrt(spread / 6)
    assert best_of(cell).luck == pytest.approx(expected, rel=1e-3)
    clause = "the largest of 3 differences is partly luck: if all arms were equal, the best would show about"
    assert f"{clause} {expected:+.2f} points to none at 6 seeds." in best_sentence(cell)


@pytest.mark.parametrize("plan", PLANS, ids=["independent", "paired", "any time", "open"])
def test_every_form_of_a_report_names_the_set(plan):
    comparison = study(plan=plan)
    said = best_sentence(comparison.cells[0])
    inside = best_of(comparison.cells[0]).among
    assert {"se", "cbam"} <= set(inside)
    assert said.split(": ")[1].startswith("of 4 arms ")
    assert said in markdown(comparison)
    assert said in unescape(html(comparison))
    assert tex(said) in table(comparison)
    write_csv(comparison, [[]], Path())
    rows = {row["attention"]: row["among_best"] for row in csv.DictReader(Path("cells.csv").read_text().splitlines())}
    wanted = {name: "yes" if name in inside else "no" for name in LEVELS}
    assert rows == wanted | {"constant": ""}


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ({"none": 0.0, "se": 5.0, "eca": 0.1}, "se is the best of 3 arms (with 95 % confidence"),
        ({"none": 0.0, "se": 0.1, "eca": 0.2}, "no arm of 3 is ruled out as the best"),
        ({"none": 0.0, "se": 3.1, "eca": 3.0}, "of 3 arms se and eca cannot be told from the best"),
    ],
)
def test_one_arm_some_and_all_have_words_of_their_own(levels, said):
    assert said in best_sentence(study(levels).cells[0])


def test_where_many_are_left_the_first_are_named_and_the_rest_are_counted():
    values = {f"a{place:02}": 90 + place / 1000 + NOISE[0] for place in range(20)} | {"none": 80 + NOISE[1]}
    said = best_sentence(scored(values))
    assert "of 21 arms a19, a18, a17, a16, a15, a14, a13, a12 and 12 others cannot be told from the best" in said


def test_two_arms_have_no_set_and_neither_has_a_cell_that_waits():
    assert best_sentence(study({"none": 0.0, "constant": 1.0, "se": 5.0}).cells[0]) == ""
    assert "cannot be told from the best" not in markdown(study({"none": 0.0, "se": 5.0}))
    values = {name: 90 + NOISE[place] for place, name in enumerate(("none", "se", "eca"))}
    assert best_sentence(scored(values, Plan(looks=(8,)))) == ""


def test_one_seed_an_arm_rules_nothing_out_and_knows_no_luck():
    said = best_sentence(study(plan=Plan(), seeds=1).cells[0])
    assert said.endswith(": no arm of 4 is ruled out as the best (with 95 % confidence: "
                         "multiple comparisons with the best).")  # fmt: skip


def test_where_lower_is_better_the_lowest_is_the_best_and_luck_lies_below():
    values = {name: 3 + level + NOISE[place] for place, (name, level) in enumerate(LEVELS.items())}
    cell = scored(values, measure=Measure("time", "time", "s", higher_is_better=False))
    assert best_of(cell).among == ("none", "eca")
    assert "the best would show about -0." in best_sentence(cell)
    assert " s to none at 6 seeds." in best_sentence(cell)


# Warnings over many arms


def test_among_many_arms_a_correlation_that_is_negative_by_chance_is_not_warned_of():
    """Alone its interval excludes 0; among seven its p is not below 0.05."""
    base = np.array([90.0, 90.5, 91.0, 90.25, 90.75, 90.5, 91.25, 90.0])
    against = 182 - base + 2.2 * np.array([0.4, -0.4, 0.2, 0.3, -0.3, 0.1, -0.4, -0.2])
    r = oracle.pearsonr(base, against)
    assert r.confidence_interval().high < 0
    p = 2 * oracle.norm.sf(abs(np.arctanh(r.statistic)) * np.sqrt(5))
    assert p < 0.05 < 7 * p
    alike = {
        name: base + np.roll(base, place) / 10 for place, name in enumerate(("cbam", "eca", "gc", "ge", "nam", "sa"))
    }
    for arms, warned in ({"se": against}, True), ({"se": against, **alike}, False):
        runs = [record(arm, seed, float(one[seed])) for arm, one in {"none": base, **arms}.items() for seed in range(8)]
        said = [warning for warning in compare(runs).warnings if "negatively correlated" in warning]
        assert bool(said) == warned


# Intervals that exclude 0


def test_an_interval_that_excludes_0_beside_undecided_says_that_it_is_alone():
    values = {"none": 90 + NOISE[0], **{f"a{place}": 90.63 + NOISE[place + 1] for place in range(4)}}
    for contrast in (arm.contrast for arm in scored(values).arms[1:]):
        assert contrast.difference.low > 0
        assert contrast.verdict.kind == "undecided"
        assert "the interval excludes 0 in this comparison alone, not in all together" in sentence(
            contrast, scored(values)
        )


def test_an_interval_that_excludes_0_where_seeds_are_too_few_for_p_says_that():
    found = scored({"none": 90 + NOISE[0][:3], "se": 99 + NOISE[1][:3]}, Plan(looks=(3,)))
    contrast = found.arms[1].contrast
    assert contrast.difference.low > 0
    assert contrast.verdict.kind == "undecided"
    assert "the interval excludes 0, and p, which a verdict takes too, is not below 0.05" in sentence(contrast, found)


def test_an_interval_that_holds_0_and_one_beside_a_decision_say_nothing_of_the_kind():
    for level in (0.1, 5.0):
        found = scored({"none": 90 + NOISE[0], "se": 90 + level + NOISE[1]})
        assert "excludes 0" not in sentence(found.arms[1].contrast, found)
