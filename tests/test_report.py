"""A report's tables and what the commands print: every number can be computed again, and every name is only text."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from handmade import ACCURACY, PLAN, record, records, stored
from scipy import stats as oracle

from attnbench import Store, Study, compare
from attnbench.cli import main
from attnbench.comparison import Comparison
from attnbench.report import markdown, write
from attnbench.verdicts import Plan


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def plan() -> Path:
    Path("plan.yaml").write_text(PLAN)
    return Path("plan.yaml")


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
    expected = ["se", "5", f"{mean:.2f}", f"[{low:.2f}, {high:.2f}]", "-", "+2.00"]
    less = oracle.ttest_ind([v - 1 for v in values], ACCURACY["none"], equal_var=False, alternative="less").pvalue
    expected += [f"[{welch.low:+.2f}, {welch.high:+.2f}]", "-", "0.016", f"{less:.3f}", "better", "1,002"]
    assert table["se"].strip("| ").split(" | ") == expected
    assert "recipe classic" in "\n".join(lines)
    assert "360 test images" in "\n".join(lines)


def test_every_run_has_a_row_of_its_own():
    write(compare(records()), Path("out"))
    found = [(row["attention"], row["seed"], float(row["accuracy"])) for row in rows(Path("out/runs.csv"))]
    assert sorted(found) == sorted((arm, str(n), a) for arm in ACCURACY for n, a in enumerate(ACCURACY[arm]))


def test_one_seed_has_a_dash_for_what_it_cannot_tell():
    table = markdown(compare([record("none", 0, 90.0), record("se", 0, 91.0)]))
    assert "| se | 1 | 91.00 | - | - | +1.00 | - | - | - | - | undecided | 1,002 |" in table


# Hostile names


EVIL = ["<script>alert(1)</script>", "a | b", "a\n\n# b", "a\r\r# b", "<img src=x>", "\\|"]


@pytest.mark.parametrize("evil", EVIL)
def test_a_hostile_name_is_only_text_in_the_markdown(evil):
    harmless, found = (
        markdown(dataclasses.replace(compare(records()), name=name, plan=Plan(baseline=name))) for name in ("n", evil)
    )
    assert "<" not in found
    assert len(found.splitlines()) == len(harmless.splitlines())
    assert found.replace("\\\\", "").replace("\\|", "").count("|") == harmless.count("|")


@pytest.mark.parametrize("evil", ["=cmd|'/c calc'!A1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1"])
def test_a_name_is_no_formula_in_a_spreadsheet(evil):
    (cell,) = compare(records()).cells
    write(Comparison("n", Plan(), (dataclasses.replace(cell, name=evil),)), Path("out"))
    for file in (Path("out/cells.csv"), Path("out/runs.csv")):
        assert {row["cell"][0] for row in rows(file)} == {"'"}


# The commands


def test_report_writes_what_it_prints(attnbench, plan):
    stored(records())
    told = attnbench("report", plan)
    assert told.returncode == 0, told.stderr
    assert Path("reports/plan/table.md").read_text() in told.stdout
    assert "written: reports/plan/index.html and " in told.stdout
    kept = {"index.html", "table.md", "table.tex", "mechanisms.bib", "cells.csv", "runs.csv", "figures"}
    assert {file.name for file in Path("reports/plan").iterdir()} == kept


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
    told = attnbench("compare", "se", "none", "--study", plan).stdout
    sentence, *table = told.splitlines()
    assert told.isascii()
    assert f"* {sentence}".replace("[", "\\[").replace("]", "\\]") in markdown(compare(Study.load(plan), Store("runs")))
    welch = oracle.ttest_ind(ACCURACY["se"], ACCURACY["none"], equal_var=False).confidence_interval()
    parts = [
        "recipe classic, 3 epochs",
        "se is better than none",
        f"[{welch.low:+.2f}, {welch.high:+.2f}]",
        "n = 5 + 5",
    ]
    for part in [*parts, "exact permutation test: p 0.016", "Holm's correction in a family of 2"]:
        assert part in sentence
    assert [line.split()[0] for line in table] == ["%", "se", "none", "difference"]
    assert [line.split()[1] for line in table[1:]] == ["93.20", "91.20", "+2.00"]
