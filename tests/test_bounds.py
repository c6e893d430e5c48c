"""Short runs on real images learn what they learnt before: at least the mean minus 4 sd of 5 measured seeds.

The bound is computed from the records of `studies/bounds.yaml` under results/bounds, not typed.
"""

import statistics
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import attnbench
from attnbench.data import splits as splits_module
from attnbench.store.runs import RunRecord

ARCHIVES = {
    "EuroSAT": ("eurosat/eurosat-part1.tar.gz", "eurosat/eurosat-part2.tar.gz"),
    "imagefolder": ("cifar10/cifar10-lossless-subset.tar.gz",),
}
STUDY = attnbench.Study.load(ROOT / "studies" / "bounds.yaml")
REAL = pytest.mark.parametrize("dataset", STUDY.grid["dataset"])


def bound(dataset: str) -> float:
    """Mean minus 4 standard deviations of the recorded test accuracies, in percent."""
    records = attnbench.Store(ROOT / "results" / "bounds").records()
    known = [record.accuracy for record in records if record.spec["dataset"] == dataset]
    assert len(known) >= 5, "too few records to bound anything"
    return statistics.mean(known) - 4 * statistics.stdev(known)


def fresh_run(dataset: str, root: Path) -> RunRecord:
    """The study's run with a seed that was not measured."""
    spec = next(spec for spec in STUDY.runs() if spec.dataset == dataset)
    spec = attnbench.RunSpec(**{**spec.fields, "seed": 6})
    return attnbench.run(spec, attnbench.Runtime(store="runs", data_dir=str(root), tracker="none"))


@pytest.mark.slow
@REAL
def test_a_fresh_seed_reaches_the_measured_accuracy(dataset, unpacked):
    root = unpacked(*ARCHIVES[dataset.split("(")[0]])
    assert fresh_run(dataset, root).accuracy >= bound(dataset)


@pytest.mark.slow
@REAL
def test_shuffled_labels_do_not_reach_it(dataset, unpacked, monkeypatch):
    """The bound can fail: the same run on labels that mean nothing stays below it."""
    root = unpacked(*ARCHIVES[dataset.split("(")[0]])

    def shuffled(split: splits_module.Split) -> np.ndarray:
        return np.random.default_rng(0).permutation(split.source.labels[split.indices])

    monkeypatch.setattr(splits_module.Split, "labels", property(shuffled))
    assert fresh_run(dataset, root).accuracy < bound(dataset)
