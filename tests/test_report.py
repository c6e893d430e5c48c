"""From records to a report: what is pooled, what is said, and that every number can be computed again."""

import csv
import dataclasses
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as oracle

from attnbench import RunSpec, Store, Study, compare
from attnbench.cli import main
from attnbench.comparison import Comparison
from attnbench.registry import ATTENTION
from attnbench.report import markdown, write
from attnbench.spec import canonical
from attnbench.store import RunRecord

ACCURACY = {
    "none": [91.25, 90.5, 92.0, 90.75, 91.5],
    "se": [93.25, 92.5, 94.0, 93.5, 92.75],
    "cbam": [91.0, 91.75, 90.25, 92.25, 90.5],
}
"""Accuracy of each seed: SE lies above all of none's, CBAM among them."""

PLAN = "name: plan\nbase: {dataset: digits, epochs: 3}\ngrid: {attention: [none, se, cbam]}\nseeds: 5\n"


def record(attention: str, seed: int, accuracy: float, given: dict | None = None, **changed) -> RunRecord:
    """The record of a run as the runner writes it, but for the training."""
    fields = {"dataset": "digits", "epochs": 3, "attention": attention, "seed": seed}
    spec = RunSpec(**{**fields, **(given or {})})
    made = RunRecord(
        id=spec.id,
        spec=dataclasses.asdict(spec),
        canonical=canonical(spec),
        status="done",
        recipe="classic",
        test={"accuracy": accuracy, "loss": 0.5, "images": 360},
        weights_sha256="0" * 64,
        data_fingerprint="data",
        split_fingerprint="split",
        numerics={"device": "cpu", "threads": 1},
        environment={"code": "one"},
        cards={"attention": dataclasses.asdict(ATTENTION.find(spec.attention.partition("(")[0]).card)},
        cost={"parameters": 1000 + len(attention), "macs": 5000},
        timings={"train": 1.5},
    )
    return dataclasses.replace(made, **changed)


def records(*attentions: str, given: dict | None = None, **changed: object) -> list[RunRecord]:
    return [
        record(attention, seed, accuracy, given, **changed)
        for attention in attentions or ACCURACY
        for seed, accuracy in enumerate(ACCURACY[attention])
    ]


def stored(made: Iterable[RunRecord], folder: Path | str = "runs") -> Store:
    store = Store(folder)
    for each in made:
        store.folder(each.id).mkdir(parents=True, exist_ok=True)
        (store.folder(each.id) / "record.json").write_text(each.to_json())
    return store


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def arms(comparison: Comparison) -> list[list[tuple[str, int]]]:
    """For each cell the arms and how many runs each has."""
    return [[(arm.name, arm.accuracy.n) for arm in cell.arms] for cell in comparison.cells]


@pytest.fixture
def plan() -> Path:
    Path("plan.yaml").write_text(PLAN)
    return Path("plan.yaml")


# What is pooled


def test_runs_that_differ_in_mechanism_and_seed_are_one_cell_with_the_baseline_first():
    found = compare(records())
    assert arms(found) == [[("none", 5), ("cbam", 5), ("se", 5)]]
    assert [arm.difference is None for arm in found.cells[0].arms] == [True, False, False]
    assert not found.warnings


def test_an_arm_holds_its_accuracies_in_the_order_of_the_seeds():
    assert compare(reversed(records())).cells[0].arm("SE()").accuracies == ACCURACY["se"]


@pytest.mark.parametrize("given", [{"epochs": 4}, {"lr": 0.5}, {"backbone": "resnet20"}, {"test_limit": 9}])
def test_runs_of_another_recipe_are_another_cell_that_says_how_it_differs(given):
    found = compare(records() + records(given=given))
    assert arms(found) == [[("none", 5), ("cbam", 5), ("se", 5)]] * 2
    assert str(*given.values()) in found.cells[1].name


@pytest.mark.parametrize("given", [{"site": "stage"}, {"stages": (1, 2)}], ids=str)
def test_a_mechanism_in_another_place_is_another_arm_of_the_same_cell(given):
    found = compare(records("none", "se") + records("se", given=given))
    assert [n for _, n in arms(found)[0]] == [5, 5, 5]


@pytest.mark.parametrize("which", ["data_fingerprint", "split_fingerprint"])
def test_records_of_other_data_or_another_split_are_never_pooled(which):
    found = compare(records() + records(**{which: "other"}))
    assert arms(found) == [[("none", 5), ("cbam", 5), ("se", 5)]] * 2
    assert len({cell.name for cell in found.cells}) == 2, "nothing tells the two tables apart"


OTHER = [
    ({"numerics": {"device": "cpu", "threads": 2}}, "2 different numerics are pooled (threads)"),
    ({"environment": {"code": "two"}}, "2 different package code are pooled"),
]


@pytest.mark.parametrize(("changed", "said"), OTHER, ids=["numerics", "code"])
def test_records_of_other_numerics_or_code_are_pooled_with_a_warning(changed, said):
    found = compare([*records("none"), *records("se", **changed)])
    assert arms(found) == [[("none", 5), ("se", 5)]]
    assert [said in warning for warning in found.warnings] == [True]
    assert said in markdown(found)


@pytest.mark.parametrize("version", [2, "0123456789abcdef"], ids=["card", "source"])
def test_two_versions_of_a_mechanism_are_not_pooled_in_silence(version):
    """They are other runs with other numbers, which only happen to have one name."""
    newer = []
    for made in records("se"):
        form = {**made.canonical, "versions": {**made.canonical["versions"], "attention": version}}
        newer.append(dataclasses.replace(made, id=f"newer{made.id}", canonical=form))
    found = compare([*records("none", "se"), *newer])
    assert found.warnings or len(found.cells[0].arms) == 3


def test_failed_runs_count_for_nothing():
    failed = [dataclasses.replace(made, status="failed", test={}) for made in records("se")]
    assert arms(compare([*records("none"), *failed])) == [[("none", 5)]]


def test_a_study_counts_its_own_done_runs_and_says_how_many_are_missing(plan):
    others = records(given={"epochs": 9})
    failed = dataclasses.replace(records("cbam")[0], status="failed")
    found = compare(Study.load(plan), stored([*records("none", "se")[:-1], failed, *others]))
    assert arms(found) == [[("none", 5), ("se", 4)]]
    assert found.missing == 6
    assert "**6 runs of this study are not done yet.**" in markdown(found)


def test_a_studys_baseline_is_what_the_others_are_compared_with():
    fields = {"base": {"dataset": "digits", "epochs": 3}, "grid": {"attention": ["none", "se"]}, "seeds": 5}
    study = Study(name="s", baseline="SE", **fields)
    first, second = compare(study, stored(records("none", "se"))).cells[0].arms
    assert (first.name, second.name, first.difference) == ("se", "none", None)
    assert second.difference.mean == pytest.approx(-2.0)


# The numbers


def test_the_csv_files_hold_the_numbers_that_numpy_and_scipy_compute():
    write(compare(records()), Path("out"))
    for row in rows(Path("out/cells.csv")):
        values, base = ACCURACY[row["attention"]], ACCURACY["none"]
        interval = oracle.t.interval(0.95, 4, np.mean(values), oracle.sem(values))
        found = [float(row[name]) for name in ("accuracy", "accuracy_low", "accuracy_high")]
        assert found == pytest.approx([np.mean(values), *interval])
        if row["attention"] != "none":
            welch = oracle.ttest_ind(values, base, equal_var=False).confidence_interval()
            found = [float(row[name]) for name in ("difference", "difference_low", "difference_high")]
            assert found == pytest.approx([np.mean(values) - np.mean(base), *welch])


def test_the_markdown_table_says_the_same_to_two_decimals():
    lines = markdown(compare(records())).splitlines()
    table = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    values = ACCURACY["se"]
    mean, (low, high) = np.mean(values), oracle.t.interval(0.95, 4, np.mean(values), oracle.sem(values))
    welch = oracle.ttest_ind(values, ACCURACY["none"], equal_var=False).confidence_interval()
    expected = ["se", "5", f"{mean:.2f}", f"[{low:.2f}, {high:.2f}]", "+2.00"]
    expected += [f"[{welch.low:+.2f}, {welch.high:+.2f}]", "0.008", "1,002"]
    assert table["se"].strip("| ").split(" | ") == expected
    assert "recipe classic" in "\n".join(lines)
    assert "360 test images" in "\n".join(lines)


def test_every_run_has_a_row_of_its_own():
    write(compare(records()), Path("out"))
    found = [(row["attention"], row["seed"], float(row["accuracy"])) for row in rows(Path("out/runs.csv"))]
    assert sorted(found) == sorted((arm, str(n), a) for arm in ACCURACY for n, a in enumerate(ACCURACY[arm]))


def test_one_seed_has_a_dash_for_what_it_cannot_tell():
    table = markdown(compare([record("none", 0, 90.0), record("se", 0, 91.0)]))
    assert "| se | 1 | 91.00 | - | +1.00 | - | - | 1,002 |" in table


# Hostile names


EVIL = ["<script>alert(1)</script>", "a | b", "a\n\n# b", "a\r\r# b", "<img src=x>", "\\|"]


@pytest.mark.parametrize("evil", EVIL)
def test_a_hostile_name_is_only_text_in_the_markdown(evil):
    harmless = markdown(dataclasses.replace(compare(records()), name="n", baseline="b"))
    found = markdown(dataclasses.replace(compare(records()), name=evil, baseline=evil))
    assert "<" not in found.replace("p < 0.05", "").replace("| < 0.001 |", "")
    assert len(found.splitlines()) == len(harmless.splitlines())
    assert found.replace("\\\\", "").replace("\\|", "").count("|") == harmless.count("|")


@pytest.mark.parametrize("evil", ["=cmd|'/c calc'!A1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1"])
def test_a_name_is_no_formula_in_a_spreadsheet(evil):
    (cell,) = compare(records()).cells
    write(Comparison("n", "none", (dataclasses.replace(cell, name=evil),)), Path("out"))
    for file in (Path("out/cells.csv"), Path("out/runs.csv")):
        assert {row["cell"][0] for row in rows(file)} == {"'"}


# The commands


def test_report_writes_what_it_prints(attnbench, plan):
    stored(records())
    told = attnbench("report", plan)
    assert told.returncode == 0, told.stderr
    assert Path("reports/plan/table.md").read_text() in told.stdout
    assert all(f"reports/plan/{name}" in told.stdout for name in ("table.md", "cells.csv", "runs.csv"))


@pytest.mark.parametrize("source", ["runs", "plan.yaml"])
def test_a_report_needs_no_torch(plan, source):
    stored(records())
    code = f"""
import sys
class Gone:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "torchvision", "mlflow"): raise ImportError(name)
sys.meta_path.insert(0, Gone())
from attnbench.cli import main
main(["report", "{source}", "--out", "out"])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(rows(Path("out/runs.csv"))) == 15


@pytest.mark.parametrize("command", ["report plan.yaml", "compare se none --study plan.yaml", "report ."])
def test_without_a_done_run_there_is_one_line_and_exit_code_2(attnbench, plan, command):
    told = attnbench(*command.split())
    assert (told.returncode, told.stdout) == (2, "")
    assert "no run is done yet" in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_a_report_that_cannot_be_written_is_one_line(attnbench, plan):
    stored(records())
    Path("taken").write_text("a file")
    told = attnbench("report", plan, "--out", "taken/here")
    assert told.returncode == 2
    assert len(told.stderr.splitlines()) == 1


EXITS = [("se", "none", None, 0), ("se", "none", "better", 0), ("none", "SE(reduction=16)", "worse", 0)]
EXITS += [("se", "none", "worse", 1), ("cbam", "none", "better", 1), ("cbam", "none", "worse", 1)]
EXITS += [("none", "none", "better", 1), ("se", "se(reduction=4)", None, 2), ("sse", "none", None, 2)]


@pytest.mark.parametrize(("one", "two", "expect", "code"), EXITS)
def test_compare_exits_with_what_was_expected_of_it(plan, monkeypatch, capsys, one, two, expect, code):
    stored(records())
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds to it
    with pytest.raises(SystemExit) as left:
        main(["compare", one, two, "--study", str(plan), *(["--expect", expect] if expect else [])])
    assert left.value.code == code
    assert len(capsys.readouterr().err.splitlines()) == (code > 0)


def test_compare_says_one_sentence_and_a_small_table_in_ascii(attnbench, plan):
    stored(records())
    told = attnbench("compare", "none", "se", "--study", plan).stdout
    sentence, *table = told.splitlines()
    assert told.isascii()
    assert "none is 2.00 points below se" in sentence
    assert "p 0.008, n = 5 + 5; 3 epochs, recipe classic" in sentence
    assert [line.split()[0] for line in table] == ["none", "se", "difference"]
    assert [line.split()[1] for line in table] == ["91.20", "93.20", "-2.00"]
