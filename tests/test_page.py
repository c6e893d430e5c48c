"""The page of a report: every number on it is computed again here, from the stored files and without our code."""

import csv
import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import made
import numpy as np
import pytest
from made import Arm, Shown, shared, text
from scipy import special, stats
from sklearn import metrics

from attnbench import Store, Study, compare
from attnbench.report import write
from attnbench.report.evidence import decomposition

pytestmark = pytest.mark.filterwarnings("ignore:Precision loss")  # of regroupings whose values are all equal
MONTE_CARLO = 5 * math.sqrt(2 / 2_000) / 2
"""A variance from 2,000 bootstrap draws has a relative error of sqrt(2 / 2000); a half width, which goes with its root
at most, of half that. Five of them are allowed."""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Two data sets, all arms, six seeds; one run of CBAM is missing, and some of SE were tested with other gates."""
    folder = tmp_path_factory.mktemp("page") / "runs"
    for record in made.fill(folder, made.study()):
        dataset, name, seed = (record.spec[field] for field in ("dataset", "attention", "seed"))
        if (dataset, name) == ("digits", "se"):
            made.gate(folder, record, "shuffled", -1.5 - 0.3 * seed)
            if seed < 4:
                made.gate(folder, record, "mean", -0.2 * seed)
        if (dataset, name, seed) == ("fashionmnist", "cbam", 2):
            (folder / record.id / "record.json").unlink()
    return folder


@pytest.fixture(scope="module", params=[("independent", 1.0), ("paired", 2.0)], ids=["independent", "paired"])
def shown(request, store) -> Shown:
    pairing, margin = request.param
    return Shown.of(made.rendered(made.study(pairing=pairing, margin=margin), store), pairing, margin, made.read(store))


# Statistics by numpy, scipy and scikit-learn


def student(values) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    mean = float(np.mean(values))
    return (mean, *map(float, stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))))


def t_test(one, two, pairing: str = "independent", **side):
    return (
        stats.ttest_rel(one, two, **side) if pairing == "paired" else stats.ttest_ind(one, two, equal_var=False, **side)
    )


def between(one, two, pairing: str = "independent") -> tuple[float, float, float]:
    """Difference of means and its 95 % interval."""
    gap = float(np.mean(one) - np.mean(two))
    if np.ptp(one) == np.ptp(two) == 0:
        return gap, gap, gap
    return (gap, *map(float, t_test(one, two, pairing).confidence_interval(0.95)))


def exact_p(one, two, pairing: str) -> float:
    """Every regrouping by Welch's t, or every flip of the pairs' signs; ties count."""
    if pairing == "paired":
        sums = np.abs(np.array(list(itertools.product([-1, 1], repeat=len(one)))) @ (one - two))
        return float(np.mean(sums >= abs(np.sum(one - two)) - 1e-9))
    pooled, n = np.concatenate([one, two]), len(one)
    firsts = itertools.combinations(range(len(pooled)), n)
    drawn = pooled[[[*first, *({*range(len(pooled))} - {*first})] for first in firsts]]
    sizes = np.abs(stats.ttest_ind(drawn[:, :n], drawn[:, n:], axis=1, equal_var=False).statistic)
    return float(np.mean(sizes >= abs(t_test(one, two).statistic) * (1 - 1e-9)))


def same_p(one, two, margin: float, pairing: str) -> float:
    """Two one-sided t tests: the larger p."""
    sides = (one - margin, "less"), (one + margin, "greater")
    return max(float(t_test(moved, two, pairing, alternative=side).pvalue) for moved, side in sides)


def holm(given: list[float]) -> list[float]:
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


def new_images(one: Arm, two: Arm | None = None, pairing: str = "independent") -> tuple[float, float]:
    """Mean and half width of the interval for new images; the images of a draw are shared, the seeds only by pairs."""
    if two is None or pairing == "paired":
        rows, others = shared(one, two) if two else ([*range(len(one.seeds))], [])
        right = one.right[rows] - (two.right[others] if two else 0)
        mean, spread, error, freedom = right.mean(), own_variance(right), stats.sem(right.mean(1)), len(rows) - 1
    else:
        rows, profiles = (
            min(one.seeds, two.seeds, key=len),
            [arm.right.mean(0) - arm.right.mean() for arm in (one, two)],
        )
        together = float(profiles[0] @ profiles[1]) / len(one.labels) ** 2
        spread = own_variance(one.right) + own_variance(two.right) - 2 * together
        mean, freedom = one.right.mean() - two.right.mean(), t_test(one.accuracy, two.accuracy).df
        error = math.hypot(stats.sem(one.accuracy), stats.sem(two.accuracy))
    variance = spread + error**2 / len(rows)
    return float(mean), float(stats.t.ppf(0.975, variance**2 * freedom / error**4) * math.sqrt(variance))


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


def gap(shown: Shown, cell: dict[str, Arm], name: str) -> tuple[float, float, float]:
    return between(*shown.pair(cell[name], cell["none"]), shown.pairing)


def families(shown: Shown, cell: dict[str, Arm]) -> dict[str, tuple[float, float]]:
    """Both of Holm's p values of each arm but the baseline."""
    others = [name for name in cell if name != "none"]
    pairs = [shown.pair(cell[name], cell["none"]) for name in others]
    apart = holm([exact_p(*pair, shown.pairing) for pair in pairs])
    alike = holm([same_p(*pair, shown.margin, shown.pairing) for pair in pairs])
    return dict(zip(others, zip(apart, alike, strict=True), strict=True))


def verdict(shown: Shown, cell: dict[str, Arm], name: str) -> tuple[str, bool]:
    """The rule of the protocol, and whether equivalence passes."""
    (apart, alike), (mean, low, high) = families(shown, cell)[name], gap(shown, cell, name)
    if apart < 0.05 and (low > 0 or high < 0):
        return "better" if mean > 0 else "worse", alike < 0.05
    return "equivalent" if alike < 0.05 else "undecided", alike < 0.05


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


def sides(mean: float, half: float) -> tuple[float, float]:
    return mean - half, mean + half


# The numbers


def test_the_main_table_holds_the_numbers_of_the_files(shown):
    rows = [list(row) for row in shown.root.find(".//section[@id='table']").find(".//tbody")]
    arms = [(cell, arm) for cell in shown.cells for arm in cell.values()]
    for row, (cell, arm) in zip(rows, arms, strict=True):
        said, keys, (mean, low, high) = [*map(text, row)], [one.get("data-sort") for one in row], student(arm.accuracy)
        assert (said[1], said[2], keys[2]) == (arm.name, *[str(len(arm.seeds))] * 2)
        half = mean - float(keys[5])
        assert [float(key) for key in keys[3:5]] == pytest.approx([mean, low])
        assert half == pytest.approx(new_images(arm)[1], rel=MONTE_CARLO)
        shows(" ".join(said[3:6]), mean, low, high, mean - half, mean + half)
        if arm.name == "none":
            assert said[6:] == keys[6:] == [""] * 6
            continue
        (mean, low, high), ps = gap(shown, cell, arm.name), families(shown, cell)[arm.name]
        assert [float(keys[place]) for place in (6, 7, 9, 10)] == pytest.approx([mean, low, *ps], rel=1e-6, abs=1e-9)
        half = mean - float(keys[8])
        assert (mean, half) == pytest.approx(new_images(arm, cell["none"], shown.pairing), rel=MONTE_CARLO)
        shows(" ".join(said[6:9]), mean, low, high, mean - half, mean + half)
        assert all(says_p(words, p) for words, p in zip(said[9:11], ps, strict=True))
        kind, close = verdict(shown, cell, arm.name)
        assert (said[11], keys[11]) == (kind + ", within the margin" * (close and kind in ("better", "worse")), kind)


@pytest.mark.parametrize("pairing", ["independent", "paired"])
def test_the_interval_for_new_images_holds_where_the_seeds_are_the_larger_part(tmp_path, pairing):
    study = made.study(grid={"dataset": ["digits"], "attention": ["none", "se"]}, seeds=4, pairing=pairing)
    made.fill(tmp_path, study, {"digits": {"none": (80.0, 3.0), "se": (84.0, 3.0)}}, images=4_000)
    none, se = made.read(tmp_path)[0].values()
    (_, row), half = made.tree(made.rendered(study, tmp_path)).iterfind(".//*[@id='table']//tbody/tr"), new_images(se)
    assert float(row[3].get("data-sort")) - float(row[5].get("data-sort")) == pytest.approx(half[1], rel=MONTE_CARLO)
    found = float(row[6].get("data-sort")) - float(row[8].get("data-sort"))
    assert found == pytest.approx(new_images(se, none, pairing)[1], rel=MONTE_CARLO)


SENTENCE = re.compile(
    r"(?P<kind>\w+) .+ \(recipe classic, 3 epochs\): (?P<answer>.+) \((?P<gap>\S+ points), 95 % interval "
    r"(?P<ends>\[.+?\]), n = (?P<n>.+?); "
    r"(?:Welch's interval, exact permutation|paired t interval, exact sign-flip) test: p (?P<p>[< \d.]+)"
    r"(?:, two one-sided t tests: p (?P<same>[< \d.]+))?, Holm's correction in a family of (?P<family>\d+)\)"
    r"(?:; about (?P<further>[\d,]+) more seeds? an arm decide with 80 % probability)?\."
)


def test_a_verdict_is_a_sentence_with_the_numbers_of_the_files(shown):
    lines = shown.root.find(".//ul[@class='verdicts']")
    arms = [(cell, name) for cell in shown.cells for name in cell if name != "none"]
    kinds = set()
    for line, (cell, name) in zip(lines, arms, strict=True):
        found = SENTENCE.fullmatch(text(line))
        assert found, text(line)
        (kind, close), (apart, alike) = verdict(shown, cell, name), families(shown, cell)[name]
        kinds.add((kind, close))
        within = f"{shown.margin:g} point{'s' * (shown.margin != 1)}"
        answers = {"undecided": f"{name} against none is undecided"}
        answers["equivalent"] = f"{name} and none are equivalent within {within}"
        usual = f"{name} is {kind} than none" + f", but within the margin of {within}" * close
        pairs = len(shared(cell[name], cell["none"])[0])
        n = f"{len(cell[name].seeds)} + 6 seeds" if shown.pairing == "independent" else f"{pairs} pairs"
        expected = (kind, answers.get(kind, usual), n, "6")
        assert (found["kind"], found["answer"], found["n"], found["family"]) == expected
        assert (found["same"] is None) == (kind in ("better", "worse") and not close)
        shows(found["gap"] + found["ends"], *gap(shown, cell, name))
        assert says_p(found["p"], apart)
        assert found["same"] is None or says_p(found["same"], alike)
        if kind == "undecided":
            decides(shown, cell, name, int(found["further"].replace(",", "")))
    assert len(kinds) >= (5 if shown.pairing == "independent" else 2), "the study shows too few kinds of verdict"


def decides(shown: Shown, cell: dict[str, Arm], name: str, further: int) -> None:
    """So many more seeds find a difference of the margin, and equivalence without one, in 80 % of simulated studies.

    The page averages over 40 quantiles of the true spread (and 40 of the measured one): of a probability, which falls
    with them, that is wrong by 1/80 (2/80) at most. One seed less does not do.
    """
    one, two = shown.pair(cell[name], cell["none"])
    paired, n = shown.pairing == "paired", min(len(one), len(two))
    spread = np.std(one - two, ddof=1) if paired else math.sqrt((np.var(one, ddof=1) + np.var(two, ddof=1)) / 2)
    known = n - 1 if paired else t_test(one, two).df
    rng = np.random.default_rng(5)

    def power(seeds: int) -> float:
        smallest = 2 / 2**seeds if paired else 2 / math.comb(2 * seeds, seeds) if seeds <= 10 else 1e-5
        freedom, unit = (seeds - 1, math.sqrt(1 / seeds)) if paired else (2 * seeds - 2, math.sqrt(2 / seeds))
        error = unit * spread * np.sqrt(known / rng.chisquare(known, 200_000))
        noise, seen = error * rng.normal(size=error.size), error * np.sqrt(rng.chisquare(freedom, error.size) / freedom)
        apart = np.abs(shown.margin + noise) > stats.t.ppf(1 - 0.05 / 12, freedom) * seen
        alike = np.abs(noise) + stats.t.ppf(1 - 0.05 / 6, freedom) * seen < shown.margin
        return min(apart.mean(), alike.mean()) * (6 * smallest < 0.05)

    assert power(n + further) > 0.8 - 2 / 80 - 0.003, (name, further)
    assert further == 1 or power(n + further - 1) < 0.8 + 2 / 80 + 0.003, (name, further)


def test_calibration_and_class_scores_are_those_of_the_logits(shown):
    for place, cell in enumerate(shown.cells, 1):
        for row, arm in zip(shown.table(place, "Calibration and classes"), cell.values(), strict=True):
            assert row[0] == arm.name
            shows(" ".join(row[1:]), *(end for seeds in scored(arm) for end in student(seeds)), places=3)
            assert (arm.logits.argmax(2) != arm.predicted).any(), "no tie of half precision would give another class"


def median_seconds(arm: Arm) -> float:
    return float(np.median([record["timings"]["train"] for record in arm.records]))


def test_costs_are_medians_and_ratios_to_the_baseline(shown):
    for place, cell in enumerate(shown.cells, 1):
        drawn = []
        for row, arm in zip(shown.table(place, "Cost."), cell.values(), strict=True):
            cost, at, seconds = arm.records[0]["cost"], cell["none"].records[0]["cost"], median_seconds(arm)
            shows(f"{row[1]} {row[3]}", cost["parameters"], cost["macs"], places=0)
            ratios = [cost[what] / at[what] for what in ("parameters", "macs")]
            shows(f"{row[2]} {row[4]} {row[6]}", *ratios, seconds / median_seconds(cell["none"]), places=3)
            shows(row[5], seconds, places=1)
            beaten = [o for o in cell.values() if median_seconds(o) < seconds and o.right.mean() >= arm.right.mean()]
            assert (row[0], row[7]) == (arm.name, "" if beaten else "yes")
            mean, low, high = student(arm.accuracy)
            drawn.append(
                {"arm": arm.name, "seconds": seconds, "accuracy": mean, "low": low, "high": high, "front": not beaten}
            )
        held = shown.specs[f"{place:02d}-time"]["datasets"]
        same(held["rows"], drawn)
        same(held["front"], [row for row in drawn if row["front"]])


def steps(cell: dict[str, Arm]) -> list[tuple]:
    """What the controls say: mechanism, part, what is compared, the difference with its interval, n."""
    found = []
    for name, random in (("cbam", 'random(of="cbam")'), ("se", "random")):
        parts = {"scale": ("constant", "none"), "parameters": ("static", "constant"),
                 "input dependence": (name, "static"), "learning where to look": (name, random)}  # fmt: skip
        for part, (one, two) in parts.items():
            n = min(len(cell[one].seeds), len(cell[two].seeds))
            found.append((name, part, f"{one} - {two}", between(cell[one].accuracy, cell[two].accuracy), n))
        for gates, words in (("shuffled", "gates of other images"), ("mean", "mean gates of the training images")):
            pairs = zip(cell[name].gates, cell[name].accuracy, strict=True)
            gaps = [own[gates] - accuracy for own, accuracy in pairs if gates in own]
            if gaps:
                found.append((name, f"gate {gates}", f"{name} with the {words} - its own", student(gaps), len(gaps)))
    return found


def test_the_controls_rows_and_figures_are_differences_of_the_arms(shown):
    for place, cell in enumerate(shown.cells, 1):
        rows, expected = shown.table(place, "What the controls say"), steps(cell)
        assert [(*row[:3], row[5]) for row in rows] == [(*step[:3], str(step[4])) for step in expected]
        for row, step in zip(rows, expected, strict=True):
            shows(f"{row[3]} {row[4]}", *step[3])
        for number, name in enumerate(("cbam", "se"), 1):
            drawn = [{"part": step[1], **span(step[3]), "compared": step[2]} for step in expected if step[0] == name]
            same(shown.specs[f"{place:02d}-controls-{number}"]["datasets"]["rows"], drawn)


def test_three_steps_add_up_to_the_gain(store):
    for cell in compare(made.study(), Store(store)).cells:
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


def test_across_data_sets_chances_are_means_and_ranks_only_describe(shown):
    rows = shown.table(None, "P(A > B): probability that a run of the mechanism")
    ranks = np.mean([stats.rankdata([-arm.accuracy.mean() for arm in cell.values()]) for cell in shown.cells], axis=0)
    for row, name, rank in zip(rows, list(shown.cells[0])[1:], ranks[1:], strict=True):
        assert row[:2] == [name, str(len(shown.cells))]
        shows(row[2], *superiority([(cell[name].accuracy, cell["none"].accuracy) for cell in shown.cells]), places=3)
        shows(row[3], rank)


def test_every_run_is_named_with_its_accuracy(shown):
    for place, cell in enumerate(shown.cells, 1):
        runs = [(arm, *run) for arm in cell.values() for run in zip(arm.records, arm.accuracy, strict=True)]
        for row, (arm, record, accuracy) in zip(shown.table(place, "Each is trained again"), runs, strict=True):
            assert row[:3] == [record["id"], arm.name, str(record["spec"]["seed"])]
            assert float(row[3]) == pytest.approx(accuracy)


# The figures' numbers


def test_the_figure_of_differences_holds_both_estimands(shown):
    for place, cell in enumerate(shown.cells, 1):
        rows, names = shown.specs[f"{place:02d}-differences"]["datasets"]["rows"], list(cell)[1:]
        assert [(row["arm"], row["estimand"]) for row in rows] == [
            (name, estimand) for name in names for estimand in ("this test set", "new images")
        ]
        for name, here, new in zip(names, rows[::2], rows[1::2], strict=True):
            kind, (mean, half) = verdict(shown, cell, name)[0], new_images(cell[name], cell["none"], shown.pairing)
            same([here], [{"arm": name, "estimand": "this test set", **span(gap(shown, cell, name)), "verdict": kind}])
            assert (new["mean"], new["verdict"]) == (pytest.approx(mean, rel=1e-5, abs=1e-9), kind)
            ends = [new["mean"] - new["low"], new["high"] - new["mean"]]
            assert ends == pytest.approx([half, half], rel=MONTE_CARLO)


def test_the_figure_of_runs_holds_every_accuracy(shown):
    for place, cell in enumerate(shown.cells, 1):
        runs = [(arm.name, *run) for arm in cell.values() for run in zip(arm.seeds, arm.accuracy, strict=True)]
        held = shown.specs[f"{place:02d}-seeds"]["datasets"]
        same(held["rows"], [{"arm": name, "seed": seed, "value": accuracy} for name, seed, accuracy in runs])
        same(held["means"], [{"arm": arm.name, "mean": arm.accuracy.mean()} for arm in cell.values()])


def test_the_figure_of_classes_holds_the_recalls_less_the_baselines(shown):
    """The last class has no test image, and no row."""
    for place, cell in enumerate(shown.cells, 1):
        own = {name: np.array([recalls(arm.labels, one) for one in arm.predicted]) for name, arm in cell.items()}
        found = [(name, k, between(own[name][:, k], own["none"][:, k])) for name in ("cbam", "se") for k in range(9)]
        rows = [{"arm": name, "class": f"class {k}", **span(numbers)} for name, k, numbers in found]
        same(shown.specs[f"{place:02d}-classes"]["datasets"]["rows"], rows)


def test_the_figure_of_calibration_holds_fifteen_bins_over_all_seeds(shown):
    for place, cell in enumerate(shown.cells, 1):
        rows = []
        for arm in cell.values():
            confidence, right = special.softmax(arm.logits.astype(float), 2).max(2).ravel(), arm.right.ravel()
            places = np.digitize(confidence, np.arange(1, 15) / 15)
            for here in (places == place for place in np.unique(places)):
                shares = {"confidence": 100 * confidence[here].mean(), "accuracy": right[here].mean()}
                rows.append({"arm": arm.name, **shares, "share": 100 * here.mean()})
        same(shown.specs[f"{place:02d}-calibration"]["datasets"]["rows"], rows)


@pytest.mark.parametrize("curve", ["loss", "accuracy"])
def test_the_figures_of_curves_hold_mean_least_and_most_of_each_epoch(shown, curve):
    for place, cell in enumerate(shown.cells, 1):
        rows = []
        for arm, epoch, split in itertools.product(cell.values(), range(3), ("train", "val")[:place]):
            values = [record["curves"][epoch][f"{split}_{curve}"] for record in arm.records]
            about = {"arm": arm.name, "curve": curve, "split": split, "epoch": epoch + 1}
            rows.append({**about, "mean": np.mean(values), "low": min(values), "high": max(values)})
        same(shown.specs[f"{place:02d}-curves-{curve}"]["datasets"]["rows"], rows)


def test_lines_beside_the_rows_are_zero_the_margin_and_the_diagonal(shown):
    lines = {"zero": [{"at": 0.0}], "marks": [{"at": -shown.margin}, {"at": shown.margin}]}
    lines["ends"] = [{"confidence": at, "accuracy": at} for at in (0, 100)]
    assert len(shown.specs) == 2 * 9
    for name, spec in shown.specs.items():
        found = {
            what: rows for what, rows in spec["datasets"].items() if rows and what not in ("rows", "means", "front")
        }
        wanted = {"differences": ["zero", "marks"], "classes": ["zero"], "controls": ["zero"], "calibration": ["ends"]}
        assert found == {what: lines[what] for what in wanted.get(name[3:].partition("-")[0], [])}


def test_a_figure_in_words_says_its_numbers(shown):
    for place, cell in enumerate(shown.cells, 1):
        said = {f.get("id")[3:]: text(f.find("details/p")) for f in shown.section(place).iter("figure")}
        arms = list(cell.values())
        shows(said["differences"], *(number for name in list(cell)[1:] for number in gap(shown, cell, name)))
        shows(
            said["seeds"], *(n for arm in arms for n in (arm.accuracy.min(), arm.accuracy.max(), arm.accuracy.mean()))
        )
        shows(
            said["time"].replace(" s", ".00 s"),
            *(n for arm in arms for n in (arm.accuracy.mean(), round(median_seconds(arm)))),
        )
        shows(said["calibration"], *(np.mean(scored(arm)[2]) for arm in arms))
        rows = shown.specs[f"{place:02d}-classes"]["datasets"]["rows"]
        shows(re.sub(r"class \d", "", said["classes"]), *(row["mean"] for row in rows))
        for number, name in enumerate(("cbam", "se"), 1):
            shows(said[f"controls-{number}"], *(n for step in steps(cell) if step[0] == name for n in step[3]))
        for curve in ("loss", "accuracy"):
            last = [row for row in shown.specs[f"{place:02d}-curves-{curve}"]["datasets"]["rows"] if row["epoch"] == 3]
            found = re.findall(r"([\d.]+) after epoch 3", said[f"curves-{curve}"])
            assert [float(number) for number in found] == pytest.approx([row["mean"] for row in last], rel=0.006)


# The files beside the page, and what is not there

EVIL = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "it's \"q\" & 'r'",
    r"\input{/etc/passwd}",
    "$x$ %y #z _u ^v ~w",
    "=cmd|'/c calc'!A1",
    "[here](javascript:alert(1))",
    "{{7*7}} {% raw %}",
    "a { b",
    "-- @me `id` $(id)",
]
MINE = """
from torch import nn
from attnbench import attention
from attnbench.mechanisms import Paper

TITLE = Paper(title={title!r}, authors={title!r}, venue={title!r}, year=2020, url={title!r})

@attention("mine", TITLE)
class Mine(nn.Module):
    def __init__(self, channels: int, note: str = "") -> None: ...
"""


REPORT = """
import sys
class Gone:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "torchvision", "mlflow"): raise ImportError(name)
sys.meta_path.insert(0, Gone())
from attnbench.cli import main
main(["report", "study.yaml", "--store", "runs", "--out", "out"])
"""


def written(folder: Path, evil: list[str]) -> Path:
    """The report of a small study, whose every free text is one of these, by a process that cannot import torch."""
    (folder / "mine.py").write_text(MINE.format(title=" ".join(evil)))
    options = [f"mine:Mine(note={' '.join(some)!r})" for some in (evil[::2], evil[1::2])]
    fields = {"base": {"dataset": "digits", "epochs": 3}, "grid": {"attention": [*made.ARMS[:6], *options]}, "seeds": 3}
    (folder / "study.yaml").write_text(json.dumps({"name": " ".join(evil), **fields}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        study = Study.load(folder / "study.yaml")
        runs = study.runs()
        for record in made.fill(folder / "runs", study, names=(*evil, "no image")):
            if record.spec["attention"] == "se":
                made.gate(folder / "runs", record, "shuffled", -1 - record.spec["seed"])
        made.run(folder / "runs", runs[-1], 80.0, error=" ".join(evil))
    done = subprocess.run([sys.executable, "-c", REPORT], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("plain"), [f"word {place}" for place in range(len(EVIL))])


@pytest.fixture(scope="module")
def evil(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("evil"), EVIL)


def test_every_figure_has_a_caption_a_text_and_two_files(plain):
    root = made.tree((plain / "index.html").read_text())
    specs = json.loads(root.find(".//script[@id='specs']").text)
    shown = list(root.iter("figure"))
    assert (
        sorted(specs)
        == sorted(figure.get("id") for figure in shown)
        == sorted({f.stem for f in (plain / "figures").iterdir()})
    )
    for figure in shown:
        caption, words, chart = text(figure.find("figcaption")), text(figure.find("details/p")), figure.find("div")
        assert re.search(r"varied.*; n = (2 to )?3 seeds an arm", caption)
        assert re.search(r"this test set|both estimands|on the (test|training) images", caption)
        assert words in chart.get("aria-label")
        assert re.search(r"\d", words)
        assert ElementTree.parse(plain / "figures" / f"{figure.get('id')}.svg").getroot().tag.endswith("}svg")
        assert (plain / "figures" / f"{figure.get('id')}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_page_asks_nothing_of_any_other_machine(plain):
    root = made.tree((plain / "index.html").read_text())
    policy = {meta.get("http-equiv"): meta.get("content") for meta in root.iter("meta")}["Content-Security-Policy"]
    assert set(policy.split("; ")) == {
        "default-src 'none'", "style-src 'unsafe-inline'", "script-src 'unsafe-inline'", "img-src data:",
    }  # fmt: skip
    loading = {"src", "href", "srcset", "data", "action", "poster", "background", "ping", "xlink:href"}
    assert all(value[0] == "#" for element in root.iter() for name, value in element.items() if name in loading)
    anchors = {element.get("href")[1:] for element in root.iter("a")}
    assert anchors <= {element.get("id") for element in root.iter()}
    styles = " ".join(element.text for element in root.iter("style"))
    assert not re.search(r"url\(|@import|image-set", styles)
    assert {element.tag for element in root.iter()}.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})


def test_a_study_of_4_data_sets_3_mechanisms_and_6_seeds_is_below_2_megabytes(tmp_path):
    """With a hundred classes only those furthest out are drawn; without controls there is nothing about them."""
    grid = {"dataset": ["digits", "fashionmnist", "cifar10", "cifar100"], "attention": ["none", "se", "cbam"]}
    study = made.study(grid=grid, where=[])
    made.fill(tmp_path / "runs", study, images=2_000, names=tuple(f"class {place}" for place in range(100)))
    html = made.rendered(study, tmp_path / "runs")
    assert len(html.encode()) < 2_000_000
    assert "What the controls say" not in html
    shown = Shown.of(html, "independent", 1.0, made.read(tmp_path / "runs"))
    cell = shown.cells[0]
    own = {name: np.mean([recalls(arm.labels, one) for one in arm.predicted], axis=0) for name, arm in cell.items()}
    furthest = np.argsort(-np.max([abs(own[name] - own["none"]) for name in ("se", "cbam")], axis=0))[:48]
    drawn = [int(row["class"][6:]) for row in shown.specs["01-classes"]["datasets"]["rows"] if row["arm"] == "se"]
    assert drawn == sorted(furthest)
    assert "Of 99 classes the 48 furthest out" in text(shown.root.find(".//figure[@id='01-classes']/figcaption"))


def test_figures_of_an_earlier_larger_report_vanish_and_other_files_stay(tmp_path):
    fields = {"base": {"dataset": "digits", "epochs": 3, "backbone": "resnet20"}, "where": []}
    studies = [
        made.study(**fields, grid={"attention": names}, seeds=2)
        for names in (["none", "se", "static", "constant"], ["none"])
    ]
    for study in studies:
        made.fill(tmp_path / "runs", study)
        paths = write(compare(study, Store(tmp_path / "runs")), tmp_path / "out")
        (tmp_path / "out" / "figures" / "notes.svg").touch()
    there = {file.name for file in (tmp_path / "out" / "figures").iterdir()} - {"notes.svg"}
    assert there == {path.name for path in paths if path.parent.name == "figures"}
    assert there.isdisjoint({"01-differences.svg", "01-controls-1.png"})


def test_runs_without_predictions_have_a_dash_for_new_images_and_no_rows_of_quality(store, tmp_path):
    study = made.study(grid={"dataset": ["digits"], "attention": ["none", "se"]})
    for record in made.fill(tmp_path / "runs", study):
        if record.spec["attention"] == "se":
            (tmp_path / "runs" / record.id / "predictions.npz").unlink()
    root = made.tree(made.rendered(study, tmp_path / "runs"))
    shown = Shown(root, {}, "", 0, [])
    none, se = [[text(one) for one in row] for row in root.find(".//section[@id='table']").find(".//tbody")]
    assert (none[5] != "-", se[5], se[8]) == (True, "-", "-")
    assert [row[0] for row in shown.table(1, "Calibration and classes")] == ["none"]
    assert shown.table(1, "Two arms")[0][5] == "-"
    assert root.find(".//section[@id='across']") is None


def test_one_seed_has_a_page_whose_figures_a_browser_can_read(tmp_path):
    study = made.study(seeds=1)
    made.fill(tmp_path / "runs", study)
    shown = Shown.of(made.rendered(study, tmp_path / "runs"), "independent", 1.0, [])
    assert {name[3:] for name in shown.specs} >= {"seeds", "time", "curves-loss", "calibration"}
    assert {cell for row in shown.table(1, "What the controls say") for cell in row[4:]} == {"-", "1"}


# Hostile texts


def test_a_hostile_text_changes_no_element_of_the_page(plain, evil):
    shapes = []
    for folder in (plain, evil):
        root = made.tree((folder / "index.html").read_text())
        shapes.append([(element.tag, sorted(element.keys())) for element in root.iter()])
    assert shapes[0] == shapes[1]
    said = text(root)
    assert all(" ".join(name.split()) in said for name in EVIL)
    specs = json.loads(root.find(".//script[@id='specs']").text)
    assert {row["class"] for row in specs["01-classes"]["datasets"]["rows"]} == set(EVIL)


def test_a_hostile_text_is_only_text_in_a_drawing(evil):
    harmless = {"svg", "g", "path", "rect", "line", "text", "defs", "clipPath", "title", "linearGradient", "stop"}
    for file in (evil / "figures").glob("*.svg"):
        for element in ElementTree.parse(file).iter():
            assert element.tag.partition("}")[2] in harmless, file
            assert not [name for name in element.attrib if name.startswith("on") or "href" in name], file
    said = "".join(ElementTree.parse(evil / "figures" / "01-classes.svg").getroot().itertext())
    assert all(name[:12] in said for name in EVIL)


PACKAGES = {"toprule": "booktabs", "midrule": "booktabs", "bottomrule": "booktabs", "textquotedbl": "[T1]{fontenc}"}
COMMANDS = {"begin", "end", "centering", "small", "caption", "multicolumn", "item", *PACKAGES}
COMMANDS |= {f"text{name}" for name in ("backslash", "asciitilde", "asciicircum", "less", "greater", "bar", "quotedbl")}
COMMANDS |= {"textbraceleft", "textbraceright", "textquotesingle", "textasciigrave"}


def inert(tex: str) -> str:
    """What is left of LaTeX without commands and escaped characters; no command but those that a table needs."""
    assert set(re.findall(r"\\([A-Za-z]+)", tex.replace(r"\\", ""))) <= COMMANDS
    left = re.sub(r"\\([A-Za-z]+|.)", "", tex.replace("$-$", "").replace("$n$", "").replace("$p$", ""))
    assert not set(left) & set('$#_%^~<>|"\\')
    depths = list(itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in left))
    assert min(depths) >= 0 == depths[-1]
    return left


@pytest.mark.parametrize("names", ["plain", "evil"])
def test_the_latex_table_is_whole(request, names):
    body = (request.getfixturevalue(names) / "table.tex").read_text().partition("\n")[2]
    inert(body)
    opened = " ".join(re.findall(r"\\((?:begin|end)\{\w+\*?)\}", body)).replace("{", " ")
    assert opened == "begin table* begin tabular end tabular end table* begin itemize end itemize"
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    cells = {len(re.findall(r"(?<!\\)&", row.replace(r"\\", ""))) + 1 for row in rows if "multicolumn" not in row}
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", body)
    assert cells == {len(columns)}
    assert len(rows) == 1 + 1 + 8
    assert not [line for line in body.splitlines() if line.startswith("[")], "read as an argument of the line before"


def test_the_latex_table_names_the_packages_of_its_commands(plain):
    first, body = (plain / "table.tex").read_text().split("\n", 1)
    used = {package for command, package in PACKAGES.items() if f"\\{command}" in body}
    assert {package for package in used if package not in first} == set()


def test_the_papers_of_mechanisms_are_there_with_authors_and_no_control(plain):
    entries = dict(re.findall(r"@\w+\{([\w-]+),\n((?:  .*\n)+)\}\n", (plain / "mechanisms.bib").read_text()))
    assert set(entries) == {"cbam", "se", "mine-Mine"}
    for name, author in (("se", "Jie Hu and Li Shen and Gang Sun"), ("cbam", "Sanghyun Woo and Jongchan Park and ")):
        assert f"  author = {{{author}" in entries[name]
        assert "  year = {2018},\n" in entries[name]


def test_a_hostile_title_is_only_text_in_the_bibliography(evil):
    """BibTeX counts every brace, also behind a backslash."""
    found = (evil / "mechanisms.bib").read_text()
    assert len(re.findall("^@", found, re.MULTILINE)) == 3
    inert(re.sub(r"^(@.*|  url = .*)$", "", found, flags=re.MULTILINE).replace("\n}\n", "\n"))
    depths = list(itertools.accumulate({"{": 1, "}": -1}.get(character, 0) for character in found))
    assert min(depths) >= 0 == depths[-1]


def test_a_hostile_text_is_no_formula_in_a_spreadsheet(evil):
    for name in ("cells.csv", "runs.csv"):
        with (evil / name).open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert {row["attention"] for row in rows} >= {"none", "se"}
        texts = [value for row in rows for value in row.values() if not re.fullmatch(r"[-+]?[\d.]+(e-?\d+)?|", value)]
        assert not [value for value in texts if value[0] in "=+-@\t\r"]
    assert any("=cmd|'/c calc'!A1" in row["attention"] for row in rows)


def test_a_hostile_text_is_only_text_in_the_markdown(plain, evil):
    tables = [(folder / "table.md").read_text() for folder in (plain, evil)]
    assert len({len(table.splitlines()) for table in tables}) == 1
    said = tables[1].replace("| < 0.001 |", "").replace("p < 0.001", "")
    assert "<" not in said
    assert not re.search(r"(?<!\\)[\[\]]", re.sub(r"\[[-+\d., ]+\]", "", said))
    assert "{{7*7}}" in said
