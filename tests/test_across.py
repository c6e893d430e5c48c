"""Cells to one statement per mechanism: what is pooled, what is not, and how it is told."""

import csv
import math
from pathlib import Path

import handmade
import numpy as np
import pytest
from handmade import stored

from attnbench import Store, Study, compare
from attnbench.analysis.across import across
from attnbench.analysis.cells import Cell, cell_of
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.measure import ACCURACY, Measure
from attnbench.analysis.plan import Plan
from attnbench.analysis.pooling import added, random_effects, ranks
from attnbench.analysis.recorded import seen_now
from attnbench.analysis.resampling import Stratum, sign_flip_p, stratified_p
from attnbench.analysis.sample import Sample
from attnbench.analysis.sequential import FIRST
from attnbench.analysis.stats import ALPHA, contrast, gap, holm, two_sided_p
from attnbench.report import markdown, write
from attnbench.report.across import across_figures, csv_rows, sections
from attnbench.report.latex import table
from attnbench.store.studies import StudyJournal

FIRST_LEVEL = ALPHA * FIRST
SECONDS = Measure("latency", "latency", "ms", higher_is_better=False)


def cell(
    name: str, plan: Plan | None = None, measure: Measure = ACCURACY, images: int = 0, **arms: list[float]
) -> Cell:
    """A cell of scores, whose arms have seeds 0, 1, ..."""
    samples = {
        arm: Sample(arm, tuple(range(len(v))), np.array(v, float), measure=measure, images=images)
        for arm, v in arms.items()
    }
    return cell_of(name, samples, plan or Plan())


def cells(sets: int, gain: float = 1.0, seeds: int = 4, tau: float = 0.3, **more) -> list[Cell]:
    """Data sets on which `se` gains about so much, and `cbam` nothing."""
    rng = np.random.default_rng(0)
    made = []
    for place in range(sets):
        own = {"none": 0.0, "se": gain + rng.normal(0, tau), "cbam": 0.0}
        made.append(cell(f"set{place}", **{a: list(rng.normal(80 + d, 0.3, seeds)) for a, d in own.items()}, **more))
    return made


def comparison(made: list[Cell]) -> Comparison:
    return Comparison("several", made[0].plan, tuple(made))


def overall(made: list[Cell], arm: str = "se"):
    (found,) = across(made)
    return next(each for each in found.overalls if each.arm == arm)


def values(of: Cell, arm: str) -> np.ndarray:
    return of.arm(arm).sample.values


# What is pooled


def test_the_two_statements_are_about_the_differences_of_the_cells():
    made = cells(4)
    found, parts = overall(made), [contrast(values(one, "se"), values(one, "none")) for one in made]
    assert found.these.mean == pytest.approx(np.mean([part[0] for part in parts]))
    assert found.like == random_effects(*np.array(parts).T, level=FIRST_LEVEL)
    assert [(one.dataset, one.cells, one.difference.mean) for one in found.sets] == [
        (one.name, 1, part[0]) for one, part in zip(made, parts, strict=True)
    ]
    for one, of in zip(found.sets, made, strict=True):
        alone = gap(values(of, "se"), values(of, "none"), level=FIRST_LEVEL)
        assert (one.difference.low, one.difference.high) == pytest.approx((alone.low, alone.high))


def test_each_p_is_corrected_over_the_mechanisms():
    (found,) = across(cells(5, gain=0.4))
    assert [each.arm for each in found.overalls] == ["cbam", "se"]
    for told, raw in (("these_p", "these"), ("like_p", "like")):
        spent = [min(1.0, getattr(each, raw).p_value / FIRST) for each in found.overalls]  # later seeds get the rest
        assert [getattr(each, told) for each in found.overalls] == holm(spent)
    assert {each.family for each in found.overalls} == {2}


def test_cells_of_one_data_set_are_averaged_and_are_not_different_data_sets():
    given = [{"backbone": "resnet20"}, {"backbone": "resnet56"}, {"dataset": "fashionmnist"}]
    made = [record for one in given for record in handmade.records("none", "se", given=one)]
    moved = [
        handmade.dataclasses.replace(r, test={**r.test, "accuracy": r.accuracy + 3}) if gains(r) else r for r in made
    ]
    (found,) = compare(moved).across
    assert {name: len(own) for name, own in found.datasets.items()} == {"digits": 2, "FashionMNIST": 1}
    (se,) = found.overalls
    assert [(one.dataset, one.cells) for one in se.sets] == [("digits", 2), ("FashionMNIST", 1)]
    assert [one.difference.mean for one in se.sets] == pytest.approx([3.5, 2.0])
    assert (se.these.mean, se.like.n) == (pytest.approx(2.75), 2)
    text = markdown(compare(moved))
    assert "se over 2 data sets (3 cells)" in text
    assert "they are not different data sets: digits (2 cells)." in text


def gains(record) -> bool:
    """Whether it is a run that is to lie three points higher."""
    return record.canonical["backbone"] == "resnet56" and record.spec["attention"] == "se"


def test_cells_of_a_single_data_set_say_nothing_of_others():
    made = [record for name in ("resnet20", "resnet56") for record in handmade.records(given={"backbone": name})]
    found = compare(made)
    se = next(each for each in found.across[0].overalls if each.arm == "se")
    assert (se.like, se.on_like, se.on_these) == (None, "undecided", "better")
    (section,) = sections(found)
    assert section.title == "Over the cells of digits"
    assert "Cells of a single data set say nothing about data sets like it" in section.limits
    assert all("data sets like these" not in text for text in section.sentences)
    assert "se over 1 data set (2 cells): on this data set, where only seeds vary, better than none" in markdown(found)


def test_what_is_measured_differently_is_not_pooled():
    made = [*cells(2), *cells(3, measure=SECONDS), cell("alone", measure=Measure(unit="s"), none=[1, 2], se=[2, 3])]
    found = across(made)
    assert [(each.measure.unit, len(each.cells)) for each in found] == [("%", 2), ("ms", 3)]
    assert [section.title for section in sections(comparison(made))] == [
        "Across data sets: test accuracy (%)",
        "Across data sets: latency (ms)",
    ]


def test_where_lower_is_better_a_negative_difference_is_a_gain():
    found = overall(cells(8, gain=-2.0, measure=SECONDS))
    assert found.these.mean < 0
    assert (found.on_these, found.on_like) == ("better", "better")
    assert (found.helped, found.credibly) == (8, (8, 0))
    assert found.superiority.mean > 0.9
    worse = overall(cells(8, gain=2.0, measure=SECONDS))
    assert (worse.on_these, worse.on_like, worse.helped, worse.credibly) == ("worse", "worse", 0, (0, 8))


def test_an_arm_counts_where_it_was_compared_and_needs_two_cells():
    made = [
        cell("a", none=[1, 2, 3], se=[2, 3, 5], eca=[1, 2, 4]),
        cell("b", none=[1, 2, 4], se=[3, 3, 4]),
        cell("c", none=[2, 2, 3]),
        cell("without", se=[1, 2, 3], eca=[1, 2, 3]),
    ]
    (found,) = across(made)
    (se,) = found.overalls
    assert [one.dataset for one in se.sets] == ["a", "b"]
    assert across(made[:1]) == across([made[0], made[3]]) == []


def test_equal_seeds_are_pairs_where_that_was_declared():
    plan = Plan(pairing="paired")
    made = [cell(name, plan, none=[1, 2, 4, 9], se=[2, 3, 6]) for name in ("a", "b", "c")]
    found = overall(made)
    assert found.these.n == 9
    assert found.these.mean == pytest.approx(4 / 3)
    assert found.these.p_value >= sign_flip_p([1, 1, 2] * 3)
    assert "sign-flip test of equal seeds as pairs" in sections(Comparison("c", plan, tuple(made)))[0].caption


def test_one_seed_an_arm_has_a_test_and_its_spread_is_part_of_tau():
    made = [cell(f"set{n}", none=[80 + n], se=[80 + n + gain]) for n, gain in enumerate([1, 2, 0.5, 1.5, 1, 2, 3])]
    found = overall(made)
    assert found.these.p_value == 2 / 2**7
    assert math.isnan(found.these.low)
    assert found.on_these == "better"
    assert found.like.tau.mean == pytest.approx(np.std([1, 2, 0.5, 1.5, 1, 2, 3], ddof=1))
    (section,) = sections(comparison(made))
    assert "Where an arm has one seed on a data set, the spread between seeds is part of tau" in section.limits


@pytest.mark.parametrize(("pairing", "told"), [("independent", False), ("paired", True)])
def test_a_single_run_beside_several_has_no_test_unless_pairs_have_one(pairing, told):
    plan = Plan(pairing=pairing)
    made = [cell(f"set{n}", plan=plan, none=[80, 80.1, 80.2, 80.3, 80.4], se=[83 + n]) for n in range(6)]
    found = overall(made)
    assert math.isnan(found.these.p_value) is not told
    assert found.on_these == ("better" if told else "undecided")


def test_the_interval_of_a_data_set_is_that_of_its_cell():
    """However the looks at the other cells shared the error."""
    rng, plan = np.random.default_rng(0), Plan(looks=(5, 8, 12))
    gains = {"soon": 6.0, "late": 0.5}
    made = [
        cell(name, plan, none=list(rng.normal(80, 0.5, 12)), se=list(rng.normal(80 + gain, 0.5, 12)))
        for name, gain in gains.items()
    ]
    for one, each in zip(overall(made).sets, made, strict=True):
        gap = each.arm("se").difference
        assert (one.difference.low, one.difference.high) == (gap.low, gap.high)
    assert len(made[0].arm("se").seeds) < len(made[1].arm("se").seeds)


def test_ranks_that_agree_everywhere_have_the_p_of_chance():
    agree = cells(6, gain=5.0, tau=0.0)
    pairs = [cell(each.name, none=list(values(each, "none")), se=list(values(each, "se"))) for each in agree]
    assert across(pairs)[0].ranks.p_value == pytest.approx(2 / 2**6)
    table = np.tile([3.0, 2.0, 1.0], (6, 1))
    assert ranks(["a", "b", "c"], table).p_value == pytest.approx(1 / 6**5)
    table[0] = [2.0, 3.0, 1.0]
    assert ranks(["a", "b"], table[:, :2]).p_value == pytest.approx(14 / 2**6)


def test_ties_do_not_make_a_standard_error_zero():
    found = overall([cell(f"set{n}", images=100, none=[80, 80, 80], se=[81, 81, 81]) for n in range(3)])
    assert all(one.error > 0 for one in found.sets)
    assert found.these.low < 1 < found.these.high
    assert found.like.low < 1 < found.like.high


def test_the_test_on_these_data_sets_regroups_within_each():
    made = cells(2, gain=0.2)
    halves = [Stratum(values(one, "se"), values(one, "none"), 0.5) for one in made]
    expected = stratified_p(halves)
    found = overall(made).these
    assert found.p_value == pytest.approx(max(expected, two_sided_p(*added(halves))))


# Looks at the whole


def plain_study(datasets: list[str], looks=None) -> Study:
    grid = {"dataset": datasets, "attention": ["none", "se"]}
    return Study(name="whole", base={"epochs": 3}, grid=grid, seeds=5, looks=looks)


def told(plan: Study, filled: list[str], keep: bool = True):
    """Read a report of the study when the runs of these data sets are done."""
    rng = np.random.default_rng(0)
    stored(
        handmade.record(arm, seed, 80 + 2 * (arm == "se") + rng.normal(0, 0.3), given={"dataset": dataset})
        for dataset in filled
        for arm in ("none", "se")
        for seed in range(5)
    )
    found = compare(plan, Store("runs"))
    if keep:
        journal = StudyJournal(Store("runs"), plan.slug)
        journal.keep_plan(plan)
        journal.keep_look(seen_now(found.cells))
    (whole,) = found.across
    (se,) = whole.overalls
    return whole, se


SETS = ["digits", "CIFAR10", "CIFAR100", "EuroSAT"]


@pytest.mark.parametrize("looks", [None, [5]])
def test_data_sets_that_are_added_to_what_was_told_are_a_further_look(looks):
    shares = []
    for count in (2, 2, 3, 4):
        whole, se = told(plain_study(SETS[:count], looks), SETS[:count])
        assert not se.waiting
        shares.append(whole.share)
    assert shares == pytest.approx([0.8 if looks is None else 1.0, 0.8 if looks is None else 1.0, 0.1, 0.05])


def test_a_planned_data_set_without_a_run_is_waited_for_and_that_is_no_look_at_the_whole():
    plan = plain_study(SETS[:3])
    for count in (2, 3):
        whole, se = told(plan, SETS[:count])
        assert (se.waiting, math.isnan(se.these_p)) == ((True, True) if count == 2 else (False, False))
        assert whole.share == pytest.approx(0.8)


# Ranks


def test_ranks_are_of_the_arms_that_all_cells_have_and_begin_at_six_data_sets():
    (found,) = across([*cells(5), cell("more", none=[80, 81], se=[82, 83], eca=[1, 2], cbam=[80, 80])])
    assert found.ranks.arms[0] == "se"
    assert set(found.ranks.arms) == {"none", "se", "cbam"}
    assert across(cells(5))[0].ranks is None
    assert across(cells(7, gain=-5.0, measure=SECONDS))[0].ranks.arms[0] == "se"


# How it is told


@pytest.mark.parametrize(
    ("sets", "said", "unsaid"),
    [
        (2, ["Two data sets say next to nothing", "no prediction for a new one", "mean ranks are not"], ["three"]),
        (3, ["With three data sets tau is hardly known", "mean ranks are not"], ["Two data sets", "Below 3"]),
        (5, ["mean ranks are not"], ["prediction"]),
        (6, ["Each cell of scores counts"], ["Two data sets", "three", "ranks"]),
    ],
)
def test_what_few_data_sets_cannot_say_is_said(sets, said, unsaid):
    (section,) = sections(comparison(cells(sets)))
    text = " ".join(section.limits)
    assert all(each in text for each in said)
    assert not any(each in text for each in unsaid)
    assert (section.rows[1][8] == "-") == (sets < 3)
    names = {figure.name for figure in across_figures(comparison(cells(sets)))}
    assert ("across-1-ranks" in names) == (sets >= 6)


def test_p_holds_over_looks_where_these_are_planned_and_says_so_where_it_does_not():
    (found,) = across(cells(4, gain=0.0, seeds=8, plan=Plan(margin=0.01, looks=(5, 8))))
    assert found.share == pytest.approx(1 - (5 / 8) ** 2)
    (every,) = across(cells(4, plan=Plan(looks="any")))
    assert every.share == 1
    told = [sections(comparison(cells(4, plan=Plan(looks=looks))))[0].limits for looks in ("any", None)]
    assert [any("looked at one by one" in text for text in limits) for limits in told] == [True, False]


def test_before_all_cells_have_their_verdicts_there_are_estimates_and_no_p():
    plan = Plan(looks=(6, 8))
    made = [*cells(3, seeds=6, plan=plan), cell("late", plan, none=[80, 81, 80], se=[82, 81, 83])]
    found, (section,) = overall(made), sections(comparison(made))
    assert made[0].arm("se").contrast.verdict.kind == "better"
    assert found.waiting
    assert (found.on_these, found.on_like) == ("undecided", "undecided")
    assert math.isnan(found.these_p)
    assert math.isnan(found.like_p)
    assert section.sentences[-1].count("no verdict yet") == 2
    assert any("no p before every cell has its verdict" in text for text in section.limits)
    (row,) = [row for row in csv_rows(comparison(made)) if row["arm"] == "se"]
    assert [row[name] for name in ("these_p", "these_p_holm", "like_these_p", "like_these_p_holm")] == [""] * 4
    assert row["these"] == found.these.mean


def test_a_sentence_holds_both_statements_and_their_numbers():
    made = cells(8, tau=1.5)
    found, (section,) = overall(made), sections(comparison(made))
    text, like = section.sentences[1], found.like
    assert text.startswith("se over 8 data sets: on these data sets, where only seeds vary, better than none (")
    for each in (found.these, like, like.new):
        assert f"{each.low:+.2f}" in text
        assert f"{each.high:+.2f}" in text
    assert f"{found.these.mean:+.2f} points, 95 % interval [{found.these.low:+.2f}, {found.these.high:+.2f}]" in text
    assert text.endswith(f"Ahead on {found.helped} of 8, credibly on {found.credibly[0]}, credibly behind on 0.")


def test_an_interval_that_excludes_0_beside_undecided_says_why():
    made = cells(6, gain=0.05, tau=0.2)
    found, (section,) = overall(made), sections(comparison(made))
    assert found.on_these == "undecided"
    assert found.these.low > 0
    assert "undecided: the interval alone excludes 0, the corrected p does not" in section.sentences[1]


def test_the_csv_file_holds_every_number(tmp_path):
    made = cells(4)
    paths = write(comparison(made), tmp_path)
    assert tmp_path / "across.csv" in paths
    with (tmp_path / "across.csv").open(newline="") as source:
        rows = {row["arm"]: row for row in csv.DictReader(source)}
    found, row = overall(made), rows["se"]
    expected = {
        "these": found.these.mean, "these_low": found.these.low, "these_p": found.these.p_value,
        "these_p_holm": found.these_p, "like_these": found.like.mean, "like_these_high": found.like.high,
        "like_these_p_holm": found.like_p, "tau": found.like.tau.mean, "tau_low": found.like.tau.low,
        "tau_high": found.like.tau.high, "new_low": found.like.new.low, "superiority": found.superiority.mean,
    }  # fmt: skip
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected)
    assert (row["these_verdict"], row["like_these_verdict"]) == (found.on_these, found.on_like)
    assert (row["data_sets"], row["cells"], row["ahead"], row["family"]) == ("4", "4", "4", "2")


def test_page_markdown_and_latex_tell_the_same(tmp_path):
    made = comparison(cells(6))
    write(made, tmp_path)
    (section,), page = sections(made), (tmp_path / "index.html").read_text()
    plain, tex = markdown(made), table(made)
    for sentence in section.sentences:
        start = sentence.partition("(")[0]
        assert start in plain
        assert start in page
        assert start in tex
    assert all(len(row) == len(section.heads) for row in section.rows)
    assert tex.count(r"\begin{table*}") == tex.count(r"\end{table*}") == 2
    drawn = {path.stem for path in (tmp_path / "figures").glob("across-*.svg")}
    assert drawn == {"across-1-statements", "across-1-each", "across-1-ranks"}
    assert all(f'id="{name}"' in page for name in drawn)


def test_one_cell_has_no_section_and_no_file(tmp_path):
    made = comparison(cells(1))
    paths = write(made, tmp_path)
    assert not any("across" in Path(path).name for path in paths)
    assert "Across" not in markdown(made)
    assert "Across" not in table(made)
