"""`attnbench variance`: each source of chance varied alone."""

import csv
import math
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
import yaml
from conftest import TINY

from attnbench import RunSpec
from attnbench.analysis.stats import correlation
from attnbench.analysis.variance import budget, deviation
from attnbench.execution.chance import varied
from attnbench.report.variance import sheet

CHANCE: dict[str, Any] = {**TINY, "augment": "crop"}


def test_the_interval_of_a_deviation_holds_the_truth_in_95_of_100():
    draws = np.random.default_rng(1).normal(scale=2.0, size=(4000, 6))
    held = np.mean([found.low < 2.0 < found.high for found in map(deviation, draws)])
    assert held == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))


def test_one_run_has_no_deviation():
    assert math.isnan(deviation([90.0]).points)


def test_all_sources_share_the_run_of_seed_0_and_differ_in_the_others(data_dir):
    found = varied(RunSpec(**CHANCE), 3, str(data_dir))
    assert set(found.runs) == {"all", "init", "order", "augment", "split"}
    assert len({spec.id for runs in found.runs.values() for spec in runs}) == 1 + 2 * len(found.runs)


@pytest.mark.parametrize(
    ("changed", "left_out"),
    [
        ({"augment": "none"}, {"augment", "noise"}),
        ({"backbone": "wrn(depth=10, widen=1, dropout=0.3)"}, set()),
        ({"backbone": 'mobilenet_v2(stem="cifar")'}, set()),
    ],
)
def test_a_source_that_draws_nothing_is_left_out_with_the_reason(data_dir, changed, left_out):
    found = varied(RunSpec(**{**CHANCE, **changed}), 2, str(data_dir))
    assert set(found.without) == left_out
    assert all(found.without.values())


def test_a_budget_is_what_its_records_say(tmp_path):
    spec = RunSpec(dataset="digits", epochs=1, train_limit=500)
    accuracies = {"all": [90.0, 91.5, 89.0, 92.0], "order": [90.0, 90.5, 91.0, 90.0]}
    records = {
        source: [
            made.run(tmp_path, RunSpec(**{**spec.fields, "vary": source, "seed": seed}), accuracy)
            for seed, accuracy in enumerate(listed)
        ]
        for source, listed in accuracies.items()
    }
    failed = made.run(tmp_path, RunSpec(**{**spec.fields, "vary": "order", "seed": 9}), 0.0, error="diverged")
    se = [
        made.run(tmp_path, RunSpec(**{**spec.fields, "attention": "se", "seed": seed}), accuracy)
        for seed, accuracy in enumerate([91.0, 92.0, 90.0, 92.5])
    ]
    found = budget("cell", {**records, "order": [*records["order"], failed]}, {"se": se}, {"noise": "none"})
    own = {source: [record.accuracy for record in listed] for source, listed in records.items()}
    assert found.together.points == pytest.approx(np.std(own["all"], ddof=1))
    assert found.share("order") == pytest.approx(np.var(own["order"], ddof=1) / np.var(own["all"], ddof=1))
    share = np.mean(own["all"]) / 100
    assert found.binomial == pytest.approx(100 * math.sqrt(share * (1 - share) / 600))
    assert found.pairs["se"] == correlation(own["all"], [record.accuracy for record in se])
    assert (found.failed, found.images) == (1, 600)
    text = sheet("made", "none", [found]).markdown()
    assert "1 runs failed and are left out" in text
    assert f"divides the runs that a difference needs by {found.pairs['se'].saved:.2f}" in text


def written(**base) -> Path:
    file = Path("study.yaml")
    grid = {"attention": ["none", "se"]}
    file.write_text(yaml.safe_dump({"name": "moved", "base": {**TINY, **base}, "grid": grid, "seeds": 2}))
    return file


@pytest.mark.slow
def test_variance_trains_each_source_once_and_writes_its_sheet(attnbench, data_dir):
    flags = ["--seeds", "2", "--tracker", "none", "--data-dir", data_dir]
    told = attnbench("variance", written(), *flags, "--dry-run")
    assert "moved variance: 5 runs, 0 done, 5 left" in told.stdout
    assert not list(Path().glob("runs/*/record.json"))
    done = attnbench("variance", written(), *flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert "noise in the network not varied: the network draws nothing in training" in done.stdout
    assert len(list(Path().glob("runs/*/record.json"))) == 5
    again = attnbench("variance", written(), *flags)
    assert "5 done, 0 left" in again.stdout
    rows = list(csv.DictReader(Path("reports/moved/variance.csv").read_text().splitlines()))
    assert [row["varied"] for row in rows] == ["all", "init", "order", "split", "test set"]
    assert {Path(f"reports/moved/variance.{ending}").is_file() for ending in ("html", "md", "svg", "pdf")} == {True}


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["--seeds", "1"], "at least 2"), (["--attention", "cbam"], "'cbam' is not among the arms 'none', 'se'")],
)
def test_what_variance_cannot_do_is_said_in_one_line(attnbench, data_dir, flags, said):
    done = attnbench("variance", written(), *flags, "--data-dir", data_dir)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
