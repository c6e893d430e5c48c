"""A report's tables and what the commands print: every number can be computed again, and every name is only text."""

import csv
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import made
import numpy as np
import pytest
from byhand import FIRST, accuracy, between, exact_p, scored, wilson
from handmade import ACCURACY, PLAN, record, records, stored
from scipy import stats as oracle
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.weightstats import ttost_ind

from attnbench import RunSpec, Store, Study, compare
from attnbench.analysis.comparison import Comparison, designs
from attnbench.analysis.plan import Plan
from attnbench.cli import main
from attnbench.execution import sweep
from attnbench.report import markdown
from attnbench.report.designs import design_lines
from attnbench.report.evidence import QUALITY, quality
from attnbench.report.tables import write_csv
from attnbench.report.text import p_text


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def spread(what: str) -> list[str]:
    return [what, f"{what}_low", f"{what}_high"]


@pytest.fixture
def own() -> Comparison:
    """The same accuracies with predictions, of runs whose files are in ./runs."""
    for arm, values in ACCURACY.items():
        for seed, value in enumerate(values):
            made.run(Path("runs"), RunSpec(dataset="digits", epochs=3, attention=arm, seed=seed), value, images=400)
    return compare(Store("runs").records())


@pytest.fixture
def plan() -> Path:
    Path("plan.yaml").write_text(PLAN)
    return Path("plan.yaml")


# The numbers


def test_the_csv_files_hold_the_numbers_that_scipy_and_statsmodels_compute(own, tmp_path):
    (cell,), (by_name,) = own.cells, made.read(tmp_path / "runs")
    write_csv(own, [quality(cell)], Path())
    table = {row["attention"]: row for row in rows(Path("cells.csv"))}
    others = [name for name in by_name if name != "none"]
    pairs = [(by_name[name].accuracy, by_name["none"].accuracy) for name in others]
    exact = [exact_p(*pair, "independent") for pair in pairs]
    equal = [ttost_ind(*pair, -1, 1, usevar="unequal")[0] for pair in pairs]
    adjusted = [multipletests(np.minimum(1, np.divide(found, FIRST)), method="holm")[1] for found in (exact, equal)]
    for place, (name, pair) in enumerate(zip(others, pairs, strict=True)):
        row, arm, r = table[name], by_name[name], np.corrcoef(*pair)[0, 1]
        spreads = [one.std(ddof=1) for one in pair]
        saved = sum(s**2 for s in spreads) / (sum(s**2 for s in spreads) - 2 * r * np.prod(spreads))
        expected = dict(zip(spread("difference"), between(*pair, part=FIRST), strict=True), family=2, margin=1)
        expected |= {"p": exact[place], "p_holm": adjusted[0][place], "equivalence_p_holm": adjusted[1][place]}
        expected |= {"correlation": r, "pairing_saved": saved, "n": 5}
        expected["churn"] = 100 * (arm.predicted != by_name["none"].predicted).mean()
        assert {key: float(row[key]) for key in expected} == pytest.approx(expected)
        assert row["verdict"] == {"se": "better", "cbam": "undecided"}[name]
        assert (row["further_seeds"] == "") == (name == "se")
    for name, arm in by_name.items():
        expected = dict(zip(spread("accuracy"), accuracy(arm), strict=True))
        expected |= dict(zip(QUALITY, scored(arm).mean(1), strict=True))
        assert {key: float(table[name][key]) for key in expected} == pytest.approx(expected, rel=1e-5)


def test_the_csv_file_holds_the_intervals_for_new_images(own):
    write_csv(own, [[]], Path())
    for row, arm in zip(rows(Path("cells.csv")), own.cells[0].arms, strict=True):
        found = {"accuracy": arm.new_images, "difference": arm.contrast and arm.contrast.new_images}
        for what, interval in found.items():
            bounds = [row[f"{what}_new_images_{side}"] for side in ("low", "high")]
            assert bounds == ([repr(interval.low), repr(interval.high)] if interval else ["", ""])


def test_the_markdown_table_says_the_same_to_two_decimals():
    lines = markdown(compare(records(), plan=Plan(margin=3.0))).splitlines()
    table = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    values = ACCURACY["se"]
    mean, low, high = wilson(float(np.mean(values)), float(oracle.sem(values)), 4, 5 * 360)
    test = oracle.ttest_ind(values, ACCURACY["none"], equal_var=False)
    welch = test.confidence_interval(1 - 0.05 * FIRST)
    expected = ["se", "5", f"{mean:.2f}", f"[{low:.2f}, {high:.2f}]", "-", "+2.00"]
    less = oracle.ttest_ind([v - 3 for v in values], ACCURACY["none"], equal_var=False, alternative="less").pvalue
    p, same = 2 * max(2 / math.comb(10, 5), test.pvalue) / FIRST, less / FIRST
    expected += [f"[{welch.low:+.2f}, {welch.high:+.2f}]", "-", f"{p:.3f}", f"{same:.3f}", "better", "1,002"]
    assert table["se"].strip("| ").split(" | ") == expected
    assert "recipe classic" in "\n".join(lines)
    assert "360 test images" in "\n".join(lines)


def test_every_run_has_a_row_of_its_own():
    write_csv(compare(records()), [[]], Path())
    found = [(row["attention"], row["seed"], float(row["accuracy"])) for row in rows(Path("runs.csv"))]
    assert sorted(found) == sorted((arm, str(n), a) for arm in ACCURACY for n, a in enumerate(ACCURACY[arm]))


def test_one_seed_has_a_dash_for_what_it_cannot_tell():
    table = markdown(compare([record("none", 0, 90.0), record("se", 0, 91.0)]))
    assert "| se | 1 | 91.00 | - | - | +1.00 | - | - | - | - | undecided | 1,002 |" in table


@pytest.mark.parametrize(
    ("p", "told"), [(0.0496, "< 0.050"), (0.05, "0.050"), (0.0494, "0.049"), (0.0006, "< 0.001"), (math.nan, "-")]
)
def test_a_p_value_is_never_rounded_over_the_level(p, told):
    assert p_text(p) == told


def test_tables_are_written_in_utf_8_whatever_the_locale(tmp_path):
    program = (
        "import attnbench; from attnbench.report import write; from pathlib import Path\n"
        "scores = {'arm': ['none', 'gr\\xf6\\xdfe'] * 3, 'seed': [0, 0, 1, 1, 2, 2], 'score': [8, 9] * 3}\n"
        "write(attnbench.verdict(scores), Path('out'))"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, check=True)
    assert "größe" in (tmp_path / "out" / "cells.csv").read_text(encoding="utf-8")


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
    write_csv(Comparison("n", Plan(), (dataclasses.replace(cell, name=evil),)), [[]], Path())
    for file in (Path("cells.csv"), Path("runs.csv")):
        assert {row["cell"][0] for row in rows(file)} == {"'"}


# The commands


def test_report_writes_what_it_prints(attnbench, plan):
    stored(records())
    told = attnbench("report", plan)
    assert told.returncode == 0, told.stderr
    assert Path("reports/plan/table.md").read_text() in told.stdout
    assert "written: reports/plan/index.html and " in told.stdout
    lines = [re.sub(r"\\(.)", r"\1", line).replace("&lt;", "<") for line in told.stdout.splitlines()]
    for arm in ("se", "cbam"):
        said = attnbench("compare", arm, "none", "--study", plan).stdout
        assert lines.count(f"* {said.splitlines()[0]}") == 1, "the report has another sentence"
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
EXITS += [("none", "none", "better", 2), ("se", "se(reduction=4)", None, 2), ("sse", "none", None, 2)]


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
    test = oracle.ttest_ind(ACCURACY["se"], ACCURACY["none"], equal_var=False)
    welch = test.confidence_interval(1 - 0.05 * FIRST)
    parts = [
        "recipe classic, 3 epochs",
        "se is better than none on these 360 test images",
        f"95 % interval of this comparison alone [{welch.low:+.2f}, {welch.high:+.2f}]",
        "n = 5 + 5",
        f"p {2 * max(2 / math.comb(10, 5), test.pvalue) / FIRST:.3f}, the larger one of",
        "the studentised permutation test (all 126 regroupings) and Welch's",
        "Holm's correction over 2 comparisons with none; first look, for 4 of the 5 %",
    ]
    for part in parts:
        assert part in sentence
    assert [line.split()[0] for line in table] == ["%", "se", "none", "difference"]
    assert [line.split()[1] for line in table[1:]] == ["93.20", "91.20", "+2.00"]


# Designs


def designed(arms: int, seeds: int, pairing: str) -> dict[str, object]:
    names = ["none", "se", "cbam", "constant", "static", "random"][:arms]
    return {
        "name": "s",
        "base": {"dataset": "digits"},
        "grid": {"attention": names},
        "seeds": seeds,
        "margin": 2.0,
        "pairing": pairing,
    }


def smallest(n: int, pairing: str, family: int) -> float:
    """The smallest p that n seeds an arm can reach after Holm's correction, at a first look."""
    return min(1.0, family * (2 / 2**n if pairing == "paired" else 2 / math.comb(2 * n, n)) / FIRST)


@pytest.mark.parametrize(("pairing", "n", "family"), [("independent", 5, 2), ("paired", 8, 1), ("paired", 8, 5)])
def test_a_design_says_what_it_can_find(pairing, n, family):
    (design,) = designs(Study(**designed(family + 1, n, pairing)))
    paired, level = pairing == "paired", 0.05 * FIRST / family
    power = TTestPower().solve_power if paired else TTestIndPower().solve_power
    size = power(**{"nobs" if paired else "nobs1": n}, alpha=level, power=0.8)
    freedom, error = (n - 1, math.sqrt(1 / n)) if paired else (2 * n - 2, math.sqrt(2 / n))
    what = "the difference of a pair" if paired else "accuracy"
    spread = 2 / oracle.t.ppf(1 - level, freedom) / error
    assert design_lines(design) == [
        f"design: {n} seeds an arm, {family} comparison{'s' * (family > 1)} that share the 5 % error; "
        "verdicts once all are there, for 4 of the 5 %; the rest is kept for seeds that are added later",
        f"smallest p that {n} seeds can reach: {smallest(n, pairing, family):.3f}, corrected for looks and comparisons",
        f"a true difference of {size:.1f} standard deviations between seeds is found with about 80 % probability",
        f"'equivalent' (within 2 points) is possible only if {what} varies by less than {spread:.2f} points between "
        "seeds",
    ]


@pytest.mark.parametrize(
    ("arms", "seeds", "pairing", "enough"),
    [(2, 3, "independent", 4), (3, 4, "independent", 5), (2, 5, "paired", 6), (6, 7, "paired", 8), (3, 1, "paired", 7)],
)
def test_a_dry_run_warns_of_a_design_that_can_never_decide(monkeypatch, capsys, arms, seeds, pairing, enough):
    assert smallest(enough, pairing, arms - 1) < 0.05 <= smallest(enough - 1, pairing, arms - 1)
    monkeypatch.setattr(sweep, "estimate", lambda _: 0.0)  # measures, in a process of its own
    for n in (seeds, enough):
        Path("s.yaml").write_text(json.dumps(designed(arms, n, pairing)))  # JSON is YAML
        monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds to it
        with pytest.raises(SystemExit):
            main(["study", "s.yaml", "--dry-run"])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"s: {arms * n} runs, 0 done, {arms * n} left"
        assert lines[1].startswith(f"design: {n} seed{'s' * (n > 1)} an arm, ")
        warning = (
            f"  {n} seed{'s' * (n > 1)} an arm cannot decide, and 'equivalent' is not said then: run at least {enough}"
        )
        assert (lines[2] == warning) == (n == seeds)
        assert any(line.startswith("  'equivalent' (within") for line in lines) == (n == enough)


def test_a_study_that_is_done_has_no_design_any_more(attnbench, plan):
    stored(records(data_fingerprint=""))  # of images that nothing is known of
    assert attnbench("study", plan, "--dry-run").stdout.splitlines()[0] == "plan: 15 runs, 15 done, 0 left"
    assert "design" not in attnbench("study", plan, "--dry-run").stdout


@pytest.mark.parametrize(("alone", "families"), [([], {2}), (["cbam"], {1, 2}), (["se", "cbam"], {2}), (["none"], {2})])
def test_every_family_with_a_baseline_has_its_design(alone, families):
    """Arms that train for longer than the rest are a cell of their own."""
    where = [{"if": {"dataset": "digits", "attention": arm}, "set": {"epochs": 30}} for arm in alone]
    plan = {**designed(3, 2, "paired"), "base": {}, "where": where}
    plan["grid"] = {**plan["grid"], "dataset": ["digits", "FashionMNIST"]}
    assert {design.family for design in designs(Study(**plan))} == families
