"""The page of a report: every number in its tables and sentences is computed again, without our code."""

import math
import re
from xml.etree import ElementTree

import made
import numpy as np
import pytest
from byhand import (
    FIRST,
    accuracy,
    between,
    exact_p,
    families,
    freedom,
    gap,
    holm,
    if_calibrated,
    later_level,
    log_seconds,
    mean_seconds,
    new_images,
    over,
    same,
    says_p,
    scored,
    shows,
    span,
    steps,
    student,
    superiority,
    verdict,
)
from made import Arm, Shown, shared, text
from scipy import stats

from attnbench import Store, compare
from attnbench.report.evidence import decomposition

pytestmark = pytest.mark.filterwarnings("ignore:Precision loss")  # of regroupings whose values are all equal


def test_the_main_table_holds_the_numbers_of_the_files(shown):
    rows = [list(row) for row in shown.root.find(".//section[@id='table']").find(".//tbody")]
    arms = [(cell, arm) for cell in shown.cells for arm in cell.values()]
    for row, (cell, arm) in zip(rows, arms, strict=True):
        (said, keys), (mean, low, high) = in_order(row), accuracy(arm)
        failed = " (1 failed)" * (len(arm.seeds) < 6)
        assert (said[1], said[2], keys[2]) == (arm.name, f"{len(arm.seeds)}{failed}", str(len(arm.seeds)))
        _, *new = new_images(arm)
        assert [float(key) for key in keys[3:6]] == pytest.approx([mean, low, new[0]])
        shows(" ".join(said[3:6]), mean, low, high, *new)
        if arm.name == "none":
            assert said[6:] == keys[6:] == [""] * 6
            continue
        (mean, low, high), ps = gap(shown, cell, arm.name), families(shown, cell)[arm.name]
        _, *new = new_images(arm, cell["none"], shown.pairing)
        assert [float(key) for key in keys[6:11]] == pytest.approx([mean, low, new[0], *ps], rel=1e-6, abs=1e-9)
        shows(" ".join(said[6:9]), mean, low, high, *new)
        assert all(says_p(words, p) for words, p in zip(said[9:11], ps, strict=True))
        kind, close = verdict(shown, cell, arm.name)
        assert (said[11], keys[11]) == (kind + ", within the margin" * (close and kind in ("better", "worse")), kind)


@pytest.mark.parametrize("pairing", ["independent", "paired"])
def test_the_interval_for_new_images_holds_where_the_seeds_are_the_larger_part(tmp_path, pairing):
    study = made.study(grid={"dataset": ["digits"], "attention": ["none", "se"]}, seeds=4, pairing=pairing)
    made.fill(tmp_path, study, {"digits": {"none": (80.0, 3.0), "se": (84.0, 3.0)}}, images=4_000)
    none, se = made.read(tmp_path)[0].values()
    _, row = made.tree(made.rendered(study, tmp_path)).iterfind(".//*[@id='table']//tbody/tr")
    for place, expected in ((8, new_images(se)), (2, new_images(se, none, pairing))):
        found = [float(row[place + more].get("data-sort")) for more in (0, 2)]
        assert found == pytest.approx(expected[:2], rel=1e-9)
        shows(" ".join([text(row[place]), text(row[place + 2])]), *expected)


def in_order(row: ElementTree.Element) -> tuple[list[str], list[str | None]]:
    """Texts and keys of a row: cell, arm, n, accuracy and its intervals, difference and its, both p, verdict."""
    arm, cell, kind, *gap, p, same, n, mean, here, new = row
    ordered = [cell, arm, n, mean, here, new, *gap, p, same, kind]
    return [*map(text, ordered)], [one.get("data-sort") for one in ordered]


SENTENCE = re.compile(
    r"(?P<kind>\w+) .+ \(recipe classic, 3 epochs\): (?P<answer>.+) \((?P<gap>\S+ points), 95 % interval of this "
    r"comparison alone (?P<ends>\[.+?\]), n = (?P<n>.+?); p (?P<p>[< \d.]+)"
    r"(?:, the larger one of the studentised permutation test \(all (?P<ways>\d+) regroupings\) and Welch's"
    r"| of the sign-flip test \(all (?P<flips>\d+) flips\))"
    r"(?:, equivalence p (?P<same>[< \d.]+) of two one-sided t tests)?, "
    r"Holm's correction over (?P<family>\d+) comparisons with none; first look, for 4 of the 5 %\)"
    r"(?P<apart>; the interval excludes 0 in this comparison alone, not in all together"
    r"|; the interval excludes 0, and p, which a verdict takes too, is not below 0\.05)?"
    r"(?:; 1 of 6 runs of cbam failed and is left out)?"
    r"(?:; about (?P<further>[\d,]+) more seeds? an arm decide with 80 % probability, at one more look"
    r"|; (?P<few>\d) seeds an arm cannot decide: run at least (?P<needed>\d))?\."
)


def test_a_verdict_is_a_sentence_with_the_numbers_of_the_files(shown):
    lines = [line for line in shown.root.iter("li") if line.find("strong") is not None]
    arms = [(cell, name) for cell in shown.cells for name in cell if name != "none"]
    arms.sort(key=lambda one: verdict(shown, *one)[0] == "undecided")
    kinds = set()
    for line, (cell, name) in zip(lines, arms, strict=True):
        found = SENTENCE.fullmatch(text(line))
        assert found, text(line)
        (kind, close), (apart, alike) = verdict(shown, cell, name), families(shown, cell)[name]
        kinds.add((kind, close))
        within = f"{shown.margin:g} point{'s' * (shown.margin != 1)}"
        here = f" on these {len(cell[name].labels)} test images"
        answers = {"undecided": f"{name} against none is undecided{here}"}
        answers["equivalent"] = f"{name} and none are equivalent within {within}{here}"
        usual = f"{name} is {kind} than none{here}" + f", but within the margin of {within}" * close
        pairs = len(shared(cell[name], cell["none"])[0])
        n = f"{len(cell[name].seeds)} + 6 seeds" if shown.pairing == "independent" else f"{pairs} pairs"
        expected = (kind, answers.get(kind, usual), n, "6")
        assert (found["kind"], found["answer"], found["n"], found["family"]) == expected
        assert (found["same"] is None) == (kind in ("better", "worse") and not close)
        shows(found["gap"] + found["ends"], *gap(shown, cell, name))
        assert says_p(found["p"], apart)
        assert found["same"] is None or says_p(found["same"], alike)
        counted = math.comb(len(cell[name].seeds) + 6, 6) // (2 if len(cell[name].seeds) == 6 else 1)
        ways = (str(counted), None) if shown.pairing == "independent" else (None, str(2**pairs))
        assert (found["ways"], found["flips"]) == ways
        few = shown.pairing == "paired" and pairs < 9  # 6 * 2 / 2**8 is more than 0.04
        assert (found["few"], found["needed"]) == ((str(pairs), "9") if few and kind == "undecided" else (None, None))
        said_apart(shown, cell, name, kind, found["apart"])
        assert (found["further"] is not None) == (kind == "undecided" and not few)
        if found["further"]:
            decides(shown, cell, name, int(found["further"].replace(",", "")))
    assert len(kinds) >= (5 if shown.pairing == "independent" else 2), "the study shows too few kinds of verdict"


def said_apart(shown: Shown, cell: dict[str, Arm], name: str, kind: str, said: str | None) -> None:
    """Why an interval without 0 is no difference: all comparisons together, or p even in this one alone."""
    _, low, high = gap(shown, cell, name)
    if kind in ("better", "worse") or low <= 0 <= high:
        assert said is None
    else:
        alone = exact_p(*shown.pair(cell[name], cell["none"]), shown.pairing) / FIRST < 0.05
        assert said
        assert ("in this comparison alone" in said) == alone


def decides(shown: Shown, cell: dict[str, Arm], name: str, further: int) -> None:
    """So many more seeds find a difference of the margin, and equivalence without one, in 80 % of simulated studies.

    The page averages over 40 quantiles of the true spread (and 40 of the measured one): of a probability, which falls
    with them, that is wrong by 1/80 (2/80) at most. One seed less does not do.
    """
    one, two = shown.pair(cell[name], cell["none"])
    paired, n = shown.pairing == "paired", min(len(one), len(two))
    spread = np.std(one - two, ddof=1) if paired else math.sqrt((np.var(one, ddof=1) + np.var(two, ddof=1)) / 2)
    known, seen = freedom(one, two, shown.pairing), len(cell["none"].seeds)
    rng = np.random.default_rng(5)

    def power(seeds: int) -> float:
        smallest = 2 / 2**seeds if paired else 2 / math.comb(2 * seeds, seeds) if seeds <= 10 else 1e-5
        many, unit = (seeds - 1, math.sqrt(1 / seeds)) if paired else (2 * seeds - 2, math.sqrt(2 / seeds))
        differs, same = (later_level(seen, seeds, 0.05 / 6, sides) for sides in (2, 1))
        error = unit * spread * np.sqrt(known / rng.chisquare(known, 200_000))
        noise, measured = error * rng.normal(size=error.size), error * np.sqrt(rng.chisquare(many, error.size) / many)
        apart = np.abs(shown.margin + noise) > stats.t.ppf(1 - differs / 2, many) * measured
        alike = np.abs(noise) + stats.t.ppf(1 - same, many) * measured < shown.margin
        return min(apart.mean(), alike.mean()) * (smallest < differs)

    assert power(n + further) > 0.8 - 2 / 80 - 0.003, (name, further)
    assert n + further - 1 <= seen or power(n + further - 1) < 0.8 + 2 / 80 + 0.003, (name, further)


def test_calibration_and_class_scores_are_those_of_the_logits(shown):
    for place, cell in enumerate(shown.cells, 1):
        for row, arm in zip(shown.table(place, "Calibration and classes"), cell.values(), strict=True):
            assert row[0] == arm.name
            expected = [end for seeds in scored(arm) for end in student(seeds)]
            shows(" ".join(row[1:]), *expected[:9], if_calibrated(arm), *expected[9:], places=3)
            assert (arm.logits.argmax(2) != arm.predicted).any(), "no tie of half precision would give another class"


def beaten(arm, cell) -> bool:
    """Whether an arm that is no control is credibly cheaper and credibly at least as accurate."""
    for other in (cell[name] for name in ("none", "se", "cbam") if name != arm.name):
        better, cheaper = between(other.accuracy, arm.accuracy), between(log_seconds(other), log_seconds(arm))
        if better[1] >= 0 and cheaper[2] < 0:
            return True
    return False


def test_costs_are_cpu_seconds_and_ratios_to_the_baseline_with_intervals(shown):
    for place, cell in enumerate(shown.cells, 1):
        drawn = []
        for row, arm in zip(shown.table(place, "Cost."), cell.values(), strict=True):
            cost, at, seconds = arm.records[0]["cost"], cell["none"].records[0]["cost"], mean_seconds(arm)
            shows(f"{row[1]} {row[3]}", cost["parameters"], cost["macs"], places=0)
            ratios = [cost[what] / at[what] for what in ("parameters", "macs")]
            shows(f"{row[2]} {row[4]}", *ratios, places=3)
            ends = np.exp(between(log_seconds(arm), log_seconds(cell["none"]))) if arm.name != "none" else [1, 1, 1]
            shows(row[6], *ends, places=3)
            shows(row[5], seconds, places=1)
            control, front = arm.name not in ("none", "se", "cbam"), not beaten(arm, cell)
            assert (row[0], row[7]) == (arm.name, "control" if control else "yes" if front else "")
            mean, low, high = accuracy(arm)
            about = {"arm": arm.name, "seconds": seconds, "accuracy": mean, "low": low, "high": high, "front": front}
            drawn += [] if control else [about]
        held = shown.specs[f"{place:02d}-time"]["datasets"]
        same(held["rows"], drawn)
        same(held["front"], [row for row in drawn if row["front"]])


def test_the_controls_rows_and_figures_are_differences_of_the_arms(shown):
    for place, cell in enumerate(shown.cells, 1):
        rows, expected = shown.table(place, "What the controls say"), steps(shown, cell)
        assert [(*row[:3], row[5]) for row in rows] == [(*step[:3], str(step[4])) for step in expected]
        for row, step in zip(rows, expected, strict=True):
            shows(f"{row[3]} {row[4]}", *step[3])
        for number, name in enumerate(made.MECHANISMS, 1):
            drawn = [{"part": step[1], **span(step[3]), "compared": step[2]} for step in expected if step[0] == name]
            same(shown.specs[f"{place:02d}-controls-{number}"]["datasets"]["rows"], drawn)


@pytest.mark.parametrize("pairing", ["independent", "paired"])
def test_three_steps_add_up_to_the_gain(store, pairing):
    """Also where pairs leave out the seed of a run that failed."""
    for cell in compare(made.study(pairing=pairing), Store(store)).cells:
        for name in ("se", "cbam"):
            ladder = [step.estimate.mean for step in decomposition(cell) if step.arm == name][:3]
            assert sum(ladder) == pytest.approx(cell.arm(name).difference.mean, abs=1e-12)


def test_two_arms_have_a_correlation_a_churn_and_the_chance_that_one_beats_the_other(shown):
    for place, cell in enumerate(shown.cells, 1):
        others = [arm for name, arm in cell.items() if name != "none"]
        for row, arm in zip(shown.table(place, "Two arms"), others, strict=True):
            own, base = shared(arm, cell["none"])
            one, two = arm.accuracy[own], cell["none"].accuracy[base]
            r, z = np.corrcoef(one, two)[0, 1], stats.norm.ppf(0.975) / math.sqrt(len(one) - 3)
            ends = [r, *(math.tanh(math.atanh(r) + side * z) for side in (-1, 1))]
            apart, both = np.var(one, ddof=1) + np.var(two, ddof=1), np.std(one, ddof=1) * np.std(two, ddof=1)
            saved = [apart / (apart - 2 * end * both) for end in ends]
            assert saved[0] == pytest.approx(apart / np.var(one - two, ddof=1))
            assert (row[0], row[2]) == (f"{arm.name} - none", str(len(own)))
            shows(row[1], *superiority([shown.pair(arm, cell["none"])]), places=3)
            churn = student(100 * (arm.predicted[own] != cell["none"].predicted[base]).mean(1))
            shows(" ".join(row[3:]), *ends, *saved, *churn)


def test_the_table_over_all_data_sets_holds_what_the_files_say(shown):
    rows, names = shown.table(None, "Mean difference to none"), sorted(set(shown.cells[0]) - {"none"})
    pairs = {name: [shown.pair(cell[name], cell["none"]) for cell in shown.cells] for name in names}
    corrected = [
        holm([ps[place] for ps in (over(pairs[name], shown.pairing)[1] for name in names)]) for place in (0, 1)
    ]
    for place, (row, name) in enumerate(zip(sorted(rows), names, strict=True)):
        (these, like, tau), _ = over(pairs[name], shown.pairing)
        each = [between(*pair, shown.pairing) for pair in pairs[name]]
        counts = [sum(mean > 0 for mean, _, _ in each)]
        counts += [sum(low > 0 for _, low, _ in each), sum(high < 0 for *_, high in each)]
        assert row[:3] == [name, str(len(shown.cells)), f"{counts[0]} ({counts[1]}, {counts[2]})"]
        shows(row[3], *these)
        shows(row[5], *like)
        shows(row[7].partition(" ")[0], tau)
        for said, p in ((row[4], corrected[0][place]), (row[6], corrected[1][place])):
            found = 0.0005 if said == "< 0.001" else float(said)
            assert found == pytest.approx(p, abs=0.006), (name, said, p)
        assert row[8] == "-", "two data sets predict nothing"
        shows(row[9], *superiority(pairs[name]), places=3)


def test_every_run_is_named_with_its_accuracy(shown):
    for place, cell in enumerate(shown.cells, 1):
        runs = [(arm, *run) for arm in cell.values() for run in zip(arm.records, arm.accuracy, strict=True)]
        for row, (arm, record, value) in zip(shown.table(place, "Each is trained again"), runs, strict=True):
            assert row == [record["id"], arm.name, str(record["spec"]["seed"]), f"{value:.4f}"]
