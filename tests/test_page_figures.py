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
from made import text
from scipy import special

pytestmark = pytest.mark.filterwarnings("ignore:Precision loss")  # of regroupings whose values are all equal


def by_gain(shown, cell):
    """The arms beside the baseline, that with the largest difference first."""
    return sorted(list(cell)[1:], key=lambda name: -gap(shown, cell, name)[0])


def test_the_figure_of_differences_holds_both_estimands(shown):
    for place, cell in enumerate(shown.cells, 1):
        rows, names = shown.specs[f"{place:02d}-differences"]["datasets"]["rows"], by_gain(shown, cell)
        assert [(row["arm"], row["estimand"]) for row in rows] == [
            (name, estimand) for name in names for estimand in ("this test set", "new images")
        ]
        for name, here, new in zip(names, rows[::2], rows[1::2], strict=True):
            kind, new_span = verdict(shown, cell, name)[0], new_images(cell[name], cell["none"], shown.pairing)
            same([here], [{"arm": name, "estimand": "this test set", **span(gap(shown, cell, name)), "verdict": kind}])
            same([new], [{"arm": name, "estimand": "new images", **span(new_span), "verdict": kind}])


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
    assert len(shown.specs) == 2 * 9 + 2
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
        shows(said["differences"], *(number for name in by_gain(shown, cell) for number in gap(shown, cell, name)))
        shows(
            said["seeds"], *(n for arm in arms for n in (arm.accuracy.min(), arm.accuracy.max(), arm.accuracy.mean()))
        )
        shows(
            said["time"].replace(" s", ".00 s"),
            *(n for arm in arms for n in (arm.accuracy.mean(), round(mean_seconds(arm)))),
        )
        shows(said["calibration"], *(n for arm in arms for n in (np.mean(scored(arm)[2]), if_calibrated(arm))))
        rows = shown.specs[f"{place:02d}-classes"]["datasets"]["rows"]
        shows(re.sub(r"class \d", "", said["classes"]), *(row["mean"] for row in rows))
        for number, name in enumerate(("cbam", "se"), 1):
            shows(said[f"controls-{number}"], *(n for step in steps(cell) if step[0] == name for n in step[3]))
        for curve in ("loss", "accuracy"):
            last = [row for row in shown.specs[f"{place:02d}-curves-{curve}"]["datasets"]["rows"] if row["epoch"] == 3]
            found = re.findall(r"([\d.]+) after epoch 3", said[f"curves-{curve}"])
            assert [float(number) for number in found] == pytest.approx([row["mean"] for row in last], rel=0.006)
