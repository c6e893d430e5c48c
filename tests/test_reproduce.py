"""When a second training counts as a reproduction: by the spread of enough runs of its cell, within a stated bound."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from handmade import record, stored
from scipy import stats

from attnbench import Runtime
from attnbench.analysis.stats import prediction_half_width
from attnbench.examine import reproduce as module
from attnbench.examine.reproduce import MOST_POINTS, Reproduction, reproduce
from attnbench.store.runs import RunRecord, Store

ELSEWHERE = {"device": "cpu", "threads": 4, "compile": False}
HERE = {"device": "cpu", "threads": 1, "compile": False}


def predicted(folder: Path, seed: int, wrong: float) -> None:
    """Predictions that miss the class in a share of a thousand images, others for each seed."""
    labels = np.arange(1000) % 10
    miss = np.random.default_rng(seed).random(1000) < wrong
    np.savez(folder / "predictions.npz", logits=np.zeros((1000, 10)), labels=labels, predicted=(labels + miss) % 10)


@pytest.fixture
def again(monkeypatch):
    """What `reproduce` says of run 0 of a cell, if training it again gave `accuracy`."""

    def say(accuracies: list[float], accuracy: float, numerics=ELSEWHERE, wrong: float | None = None) -> Reproduction:
        records = [record("se", seed, each, numerics=HERE) for seed, each in enumerate(accuracies)]
        store = stored(records)
        for seed, each in enumerate(records):
            if wrong is not None:
                predicted(store.folder(each.id), seed, 0.1)

        def execute(sweep, **_) -> list[object]:
            new = dataclasses.replace(records[0], weights_sha256="1" * 64, numerics=numerics)
            new = dataclasses.replace(new, test={**new.test, "accuracy": accuracy})
            stored([new], sweep.runtime.store)
            if wrong is not None:
                predicted(Store(sweep.runtime.store).folder(new.id), 99, wrong)
            return []

        monkeypatch.setattr(module, "execute", execute)
        return reproduce(records[0].id, Runtime(store="runs", tracker="none"))

    return say


CELL = [90.0, 90.2, 89.9, 90.1, 90.3]


def test_the_tolerance_is_half_a_prediction_interval_of_one_more_run(again):
    half = stats.t.ppf(0.975, 4) * np.std(CELL, ddof=1) * math.sqrt(1 + 1 / 5)
    assert prediction_half_width(CELL) == pytest.approx(half)
    found = again(CELL, 90 + half - 0.01)
    assert found.verdict == "within tolerance"
    assert f"\ntolerance: {half:.4f} points, from the 5 runs of this cell: the 95 % prediction" in str(found)
    assert again(CELL, 90 + half + 0.01).verdict == "different"


def test_below_five_runs_there_is_no_tolerance(again):
    found = again(CELL[:4], 90.0)
    assert (found.verdict, found.tolerance) == ("different", None)
    assert "tolerance: none: it needs 5 done runs of this cell" in str(found)


def test_runs_that_scatter_widely_give_no_wider_tolerance_than_the_bound(again):
    wide = [90.0, 80.0, 95.0, 70.0, 85.0]
    assert again(wide, 90 + MOST_POINTS).verdict == "within tolerance"
    assert again(wide, 90 + MOST_POINTS + 0.01).verdict == "different"


def test_other_bits_under_the_same_numerics_are_different_however_near(again):
    assert again(CELL, 90.0, numerics=HERE).verdict == "different"


def test_an_accuracy_as_near_on_other_images_is_different(again):
    near = again(CELL, 90.0, wrong=0.1)
    assert near.verdict == "within tolerance"
    assert near.tolerance.agreement == pytest.approx(82, abs=4)
    apart = again(CELL, 90.0, wrong=0.5)
    assert (apart.verdict, apart.agreement < near.tolerance.agreement) == ("different", True)
    assert f"the same class for {apart.agreement:.1f} % of the test images" in str(apart)


def test_runs_of_other_cells_are_no_peers():
    own = record("se", 0, 90.0)
    others = [record("cbam", seed, 90.0) for seed in range(9)]
    moved = [dataclasses.replace(record("se", seed, 90.0), data_fingerprint="other") for seed in range(9)]
    assert module.Tolerance.of(own, [own, *others, *moved]) is None
    assert module.Tolerance.of(own, [record("se", seed, 90.0 + seed) for seed in range(5)]) is not None


def test_the_same_bits_are_identical(monkeypatch):
    one: RunRecord = record("se", 0, 90.0, numerics=HERE)
    stored([one])
    monkeypatch.setattr(module, "execute", lambda sweep, **_: stored([one], sweep.runtime.store) and [])
    assert reproduce(one.id, Runtime(store="runs", tracker="none")).verdict == "identical"
