"""The figures of a report: every number that they draw is computed again, without our code."""

import itertools
import re

import numpy as np
import pytest
from byhand import (
    between,
    gap,
    if_calibrated,
    mean_seconds,
    new_images,
    recalls,
    same,
    scored,
    shows,
    span,
    steps,
    verdict,
)
from made import MECHANISMS, text
from scipy import special

pytestmark = pytest.mark.filterwarnings("ignore:Precision loss")  # of regroupings whose values are all equal


def by_gain(shown, cell):
    """The arms beside the baseline, that with the largest difference first."""
    return sorted(list(cell)[1:], key=lambda name: -gap(shown, cell, name)[0])


@pytest.mark.parametrize("of", ["", "-controls"])
def test_the_figures_of_differences_hold_both_estimands(shown, of):
    """Mechanisms in one, controls in the other."""
    for place, cell in enumerate(shown.cells, 1):
        rows = shown.specs[f"{place:02d}-differences{of}"]["datasets"]["rows"]
        names = [name for name in by_gain(shown, cell) if (name not in MECHANISMS) == bool(of)]
        assert [(row["arm"], row["estimand"]) for row in rows] == [
            (name, estimand) for name in names for estimand in ("this test set", "new images")
        ]
        for name, here, new in zip(names, rows[::2], rows[1::2], strict=True):
            kind, new_span = verdict(shown, cell, name)[0], new_images(cell[name], cell["none"], shown.pairing)
            same([here], [{"arm": name, "estimand": "this test set", **span(gap(shown, cell, name)), "verdict": kind}])
            same([new], [{"arm": name, "estimand": "new images", **span(new_span), "verdict": kind}])


@pytest.mark.parametrize("of", ["", "-controls"])
def test_the_figures_of_runs_hold_every_accuracy(shown, of):
    """The baseline stands beside the mechanisms, and beside the controls."""
    for place, cell in enumerate(shown.cells, 1):
        arms = [arm for name, arm in cell.items() if name == "none" or (name not in MECHANISMS) == bool(of)]
        runs = [(arm.name, *run) for arm in arms for run in zip(arm.seeds, arm.accuracy, strict=True)]
        held = shown.specs[f"{place:02d}-seeds{of}"]["datasets"]
        same(held["rows"], [{"arm": name, "seed": seed, "value": accuracy} for name, seed, accuracy in runs])
        same(held["means"], [{"arm": arm.name, "mean": arm.accuracy.mean()} for arm in arms])


def test_the_figure_of_classes_holds_the_recalls_less_the_baselines(shown):
    """The last class has no test image, and no row."""
    for place, cell in enumerate(shown.cells, 1):
        own = {name: np.array([recalls(arm.labels, one) for one in arm.predicted]) for name, arm in cell.items()}
        found = [(name, k, between(own[name][:, k], own["none"][:, k])) for name in MECHANISMS for k in range(9)]
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


def test_the_figures_of_confusions_hold_what_is_taken_for_what(shown):
    """Of the baseline, and of the mechanism that gains most; the last class has no image, and no row."""
    for place, cell in enumerate(shown.cells, 1):
        for number, name in enumerate(("none", next(n for n in by_gain(shown, cell) if n in MECHANISMS)), 1):
            arm, rows = cell[name], []
            for is_, told in itertools.product(range(10), repeat=2):
                own = arm.labels == is_
                share = 100 * (arm.predicted[:, own] == told).mean() if own.any() else 0.0
                if share or (own.any() and is_ == told):
                    words = {"true": f"class {is_}", "told": f"class {told}"}
                    rows.append({**words, "percent": share, "wrong": share * (is_ != told)})
            same(shown.specs[f"{place:02d}-confusions-{number}"]["datasets"]["rows"], rows)


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
    assert len(shown.specs) == 2 * 13 + 2
    for name, spec in shown.specs.items():
        found = {
            what: rows for what, rows in spec["datasets"].items() if rows and what not in ("rows", "means", "front")
        }
        wanted = {"differences": ["zero", "marks"], "classes": ["zero"], "controls": ["zero"], "calibration": ["ends"]}
        wanted |= {"statements": ["zero"], "each": ["zero"]}
        kind = name.removeprefix("across-1-") if name.startswith("across") else name[3:].partition("-")[0]
        assert found == {what: lines[what] for what in wanted.get(kind, [])}


def test_a_figure_in_words_says_its_numbers(shown):
    for place, cell in enumerate(shown.cells, 1):
        said = {f.get("id")[3:]: text(f.find("details/p")) for f in shown.section(place).iter("figure")}
        arms = list(cell.values())
        for of in ("", "-controls"):
            names = [name for name in by_gain(shown, cell) if (name not in MECHANISMS) == bool(of)]
            shows(said[f"differences{of}"], *(number for name in names for number in gap(shown, cell, name)))
            runs = [arm.accuracy for arm in arms if arm.name == "none" or arm.name in names]
            shows(said[f"seeds{of}"], *(n for each in runs for n in (each.min(), each.max(), each.mean())))
        shows(
            said["time"].replace(" s", ".00 s"),
            *(n for arm in arms[:3] for n in (arm.accuracy.mean(), round(mean_seconds(arm)))),
        )
        shows(said["calibration"], *(n for arm in arms for n in (np.mean(scored(arm)[2]), if_calibrated(arm))))
        rows = shown.specs[f"{place:02d}-classes"]["datasets"]["rows"]
        shows(re.sub(r"class \d", "", said["classes"]), *(row["mean"] for row in rows))
        for number, name in enumerate(MECHANISMS, 1):
            shows(said[f"controls-{number}"], *(n for step in steps(shown, cell) if step[0] == name for n in step[3]))
        for curve in ("loss", "accuracy"):
            last = [row for row in shown.specs[f"{place:02d}-curves-{curve}"]["datasets"]["rows"] if row["epoch"] == 3]
            found = re.findall(r"([\d.]+) after epoch 3", said[f"curves-{curve}"])
            assert [float(number) for number in found] == pytest.approx([row["mean"] for row in last], rel=0.006)
