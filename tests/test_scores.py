"""Scores from anywhere: the same verdicts as for runs of ours, and one clear line for whatever is wrong with them."""

import csv
import io
import math
import random
import re
from pathlib import Path

import made
import numpy as np
import pytest
from byhand import FIRST, between, exact_p
from conftest import ROOT

import attnbench
from attnbench.analysis.comparison import Comparison
from attnbench.analysis.plan import Plan
from attnbench.analysis.stats import difference
from attnbench.cli import main
from attnbench.errors import AttnbenchError, BadScores
from attnbench.report import html, markdown, write
from attnbench.report.sentences import sentence
from attnbench.report.tables import verdicts
from attnbench.report.text import arm_row

NONE = [90.0, 90.5, 91.0, 90.25, 90.75]
SE = [93.0, 93.25, 92.75, 93.5, 93.0]
GOOD = {"none": NONE, "se": SE}


def rows(scores=GOOD, **columns) -> list[dict]:
    return [
        {"arm": arm, "seed": seed, "score": value, **columns}
        for arm, values in scores.items()
        for seed, value in enumerate(values)
    ]


def table(text: str) -> Path:
    Path("scores.csv").write_text(text)
    return Path("scores.csv")


def refused(scores, **terms) -> str:
    with pytest.raises(BadScores) as found:
        attnbench.verdict(scores, **terms)
    return str(found.value)


def csv_of(records: list[dict]) -> Path:
    with Path("scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return Path("scores.csv")


# The same as for runs of ours


@pytest.mark.parametrize("pairing", ["independent", "paired"])
@pytest.mark.parametrize("margin", [0.5, 20.0])
def test_scores_of_the_projects_own_records_give_the_verdicts_of_a_report_digit_for_digit(pairing, margin):
    records = attnbench.Store(ROOT / "results" / "quick").records()
    ours = attnbench.compare(records, plan=Plan(margin=margin, pairing=pairing))
    listed = [
        {"cell": cell.name, "arm": arm.name, "seed": seed, "score": value, "unit": "%"}
        for cell in ours.cells
        for arm in cell.arms
        for seed, value in zip(arm.sample.seeds, arm.values, strict=True)
    ]
    random.Random(0).shuffle(listed)
    found = attnbench.verdict(csv_of(listed), margin=margin, pairing=pairing)
    assert {cell.name for cell in found.cells} == {cell.name for cell in ours.cells}
    for cell in ours.cells:
        same = next(one for one in found.cells if one.name == cell.name)
        assert [arm.name for arm in same.arms] == [arm.name for arm in cell.arms]
        for one, two in zip(same.arms, cell.arms, strict=True):
            assert (one.values, one.score.mean, one.score.n) == (two.values, two.score.mean, two.score.n)
            assert (one.contrast is None) == (two.contrast is None)
            if one.contrast and two.contrast:
                assert one.contrast.difference == two.contrast.difference
                assert one.contrast.verdict == two.contrast.verdict
                assert one.contrast.superiority == two.contrast.superiority
    regimes = "|".join(re.escape(f" ({cell.regime})") for cell in ours.cells)
    told = re.sub(rf"{regimes}| on these [\d,]+ test images", "", "\n".join(sentences(ours)))
    assert sorted(sentences(found)) == sorted(told.splitlines()), "more than the recipe and the images is other"


def sentences(comparison: Comparison) -> list[str]:
    """The verdicts alone: what may be the best is another set where it is not known which arms are controls."""
    return [sentence(arm.contrast, cell) for cell in comparison.cells for arm in cell.arms if arm.contrast]


def test_a_verdict_is_what_scipy_computes():
    contrast = attnbench.verdict(rows()).cells[0].arm("se").contrast
    one, two, found = np.array(SE), np.array(NONE), contrast.difference
    assert (found.mean, found.low, found.high) == pytest.approx(between(one, two, part=FIRST))
    assert contrast.verdict.p_value == pytest.approx(exact_p(one, two, "independent") / FIRST)
    assert contrast.verdict.kind == "better"


class Frame:
    """As pandas and polars have it: names of columns, and a column by its name."""

    columns = ("arm", "seed", "score")

    def __getitem__(self, name: str) -> list:
        return [row[name] for row in rows()]


def test_a_file_a_frame_columns_and_rows_are_the_same_scores():
    import pandas

    columns = {name: [row[name] for row in rows()] for name in ("arm", "seed", "score")}
    semicolons = Path("semicolons.csv")
    semicolons.write_bytes("\ufeff\r\nArm; seed ;SCORE\r\n\r\n".encode())
    semicolons.write_bytes(
        semicolons.read_bytes() + "".join(f"{r['arm']};{r['seed']}; {r['score']} \r\n" for r in rows()).encode()
    )
    sources = [csv_of(rows()), str(csv_of(rows())), semicolons, pandas.DataFrame(rows()), Frame(), columns]
    expected = markdown(attnbench.verdict(rows(), unit="%")).partition("**:")[2]
    for source in sources:
        assert markdown(attnbench.verdict(source, unit="%")).partition("**:")[2] == expected


def test_cells_are_told_apart_and_each_has_its_own_family():
    found = attnbench.verdict(rows({**GOOD, "cbam": NONE[::-1]}, cell="one") + rows(cell="two"))
    assert [cell.name for cell in found.cells] == ["one", "two"]
    assert [cell.arm("se").contrast.verdict.family for cell in found.cells] == [2, 1]


def test_a_lower_score_is_the_better_one_where_it_is_said():
    for given in ({"higher_is_better": False}, {"higher_is_better": "no"}):
        found = attnbench.verdict(rows(unit="s", **given), margin=1)
        contrast = found.cells[0].arm("se").contrast
        assert (contrast.verdict.kind, contrast.difference.mean) == ("worse", pytest.approx(2.6))
        assert contrast.superiority.mean == 0.0
        (said,) = verdicts(found)
        assert said.startswith("scores (lower is better): se is worse than none (+2.60 s, ")
    assert attnbench.verdict(rows(unit="s"), margin=1, higher_is_better=False).cells[0].measure.unit == "s"


def test_where_lower_is_better_the_matrix_begins_with_the_lowest():
    found = attnbench.verdict(rows({**GOOD, "eca": [85.0, 85.5, 86.0, 85.25, 85.75]}), margin=1, higher_is_better=False)
    matrix = made.tree(html(found)).find(".//table[@class='matrix']")
    assert "; the best first. " in made.text(matrix.find("caption"))
    names = [made.text(row.find("th")) for row in matrix.iter("tr") if row.find("td[@class]") is not None]
    assert names == ["eca", "se"]


def test_a_free_unit_stands_in_sentence_table_and_margin():
    found = attnbench.verdict(
        rows({"none": [10.0, 11.0, 11.0, 12.0], "se": [10.5, 11.0, 11.0, 11.5]}, unit="dB"), margin=30
    )
    (said,) = verdicts(found)
    assert "none are equivalent within 30 dB (+0.0 dB, 95 % interval [" in said
    assert "a margin of 30 dB" in markdown(found)
    assert arm_row(found.cells[0].arm("none"))[2] == "11.0"


def test_shares_are_shown_with_as_many_places_as_their_margin_needs_and_that_is_said():
    shares = {arm: [value / 100 for value in values] for arm, values in GOOD.items()}
    found = attnbench.verdict(rows(shares))
    assert found.cells[0].plan.margin == 0.01
    assert arm_row(found.cells[0].arm("se"))[2] == "0.9310"
    assert "scores: all scores lie between 0 and 1 and are taken for shares, with a margin of 0.01" in found.warnings
    assert not attnbench.verdict(rows(shares), margin=0.02).warnings


def test_a_unit_that_nobody_said_is_told_with_the_margin_that_follows_from_it():
    decibels = rows({"none": [28.1, 28.3, 28.2], "deblur": [28.2, 28.4, 28.3]})
    said = "scores: all scores lie between 0 and 100 and are taken for percentages, with a margin of 1 point"
    assert attnbench.verdict(decibels).warnings == (said,)
    assert not attnbench.verdict(decibels, unit="%").warnings
    assert attnbench.verdict(decibels, margin=0.2).warnings == (said.replace("1 point", "0.2 points"),)


def test_the_page_and_the_tables_leave_out_what_needs_records(tmp_path):
    found = attnbench.verdict(rows())
    files = [path.relative_to(tmp_path).as_posix() for path in write(found, tmp_path)]
    figures = [f"figures/01-{name}.{kind}" for name in ("differences", "seeds") for kind in ("svg", "pdf")]
    assert files == ["index.html", "table.md", "table.tex", "cells.csv", "runs.csv", *figures]
    page = html(found)
    records = ["new images", "multiply-accumulates", "Calibration and classes", "attnbench reproduce", "Recipe"]
    for absent in (*records, "initial weights", "augmentation", "same test images", "the recipe", "mechanisms.bib"):
        assert absent not in page.partition("<script")[0]
    for there in (tmp_path / "table.md", tmp_path / "index.html"):
        assert "se is better than none (+2.60 points" in there.read_text()
    runs = list(csv.DictReader(io.StringIO((tmp_path / "runs.csv").read_text())))
    assert {run["failed"] for run in runs} == {"False"}
    assert [(run["arm"], int(run["seed"]), float(run["score"])) for run in runs] == [
        (arm, seed, value) for arm in ("none", "se") for seed, value in enumerate(GOOD[arm])
    ]


def test_of_very_many_runs_the_page_shows_the_first_and_the_table_all(tmp_path):
    rng = np.random.default_rng(0)
    found = attnbench.verdict(rows({arm: list(rng.normal(90, 1, 2000)) for arm in ("none", "se")}))
    write(found, tmp_path)
    page = html(found)
    assert "These are the first; 2,000 more are in runs.csv." in page
    assert "Drawn are the first 1,000 of each arm." in page
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 4001


@pytest.mark.parametrize("pairing", ["independent", "paired"])
def test_many_scores_have_the_p_value_to_which_the_tests_law_has_come_near(pairing):
    """From 100 values an arm; drawing would tell it to three digits."""
    rng = np.random.default_rng(1)
    one, two = rng.normal(90.2, 1, 100), rng.normal(90.0, 1, 100)
    seen = difference(one, two, pairing).p_value
    moved = one - two if pairing == "paired" else np.concatenate([one, two]) - np.concatenate([one, two]).mean()
    far, observed = 0, abs(one.mean() - two.mean())
    for _ in range(20):
        if pairing == "paired":
            law = np.abs((rng.choice([-1, 1], (1000, 100)) * moved).mean(1))
        else:
            shuffled = rng.permuted(np.tile(moved, (1000, 1)), axis=1)
            law = np.abs(shuffled[:, :100].mean(1) - shuffled[:, 100:].mean(1))
        far += int((law >= observed).sum())
    drawn = far / 20_000
    assert seen == pytest.approx(drawn, abs=5 * math.sqrt(drawn * (1 - drawn) / 20_000) + 0.005)


def test_arms_of_very_unequal_size_do_not_ask_for_memory_without_end():
    found = attnbench.verdict(rows({"none": [90 + (n % 7) / 10 for n in range(20_000)], "se": SE}))
    assert found.cells[0].arm("se").contrast.verdict.kind == "better"


# Runs that failed


@pytest.mark.parametrize("written", ["nan", "NaN", "", "inf", "-inf", "N/A", "diverged"])
def test_a_run_that_failed_scores_the_worst_of_its_cell_and_that_is_said(written):
    found = attnbench.verdict(csv_of([*rows(), {"arm": "se", "seed": 5, "score": written}]))
    assert "; 1 of 6 runs of se failed and scores 90 %" in verdicts(found)[0]
    assert found.cells[0].arm("se").values == [*SE, 90.0]
    said = (
        "scores: se seed 5 failed (no finite score); a failed run counts as the worst finite score of the cell, 90.00, "
        "and no arm with one is called equivalent; --chance gives it the score of guessing"
    )
    assert said in found.warnings
    assert said in markdown(found)


@pytest.mark.parametrize("asked", [{}, {"chance": 90.0}])
def test_failed_runs_that_score_like_others_make_no_arm_equivalent(asked):
    close = [90 + n / 100 for n in range(8)]
    found = attnbench.verdict(rows({"none": close, "se": [*close, math.nan, math.nan]}), **asked)
    verdict = found.cells[0].arm("se").contrast.verdict
    assert (verdict.kind, verdict.within_margin) == (("equivalent", True) if asked else ("undecided", False))


def test_a_gap_in_a_column_of_pandas_own_types_is_a_run_that_failed_or_no_seed():
    import pandas

    frame = pandas.DataFrame(rows()).convert_dtypes()
    frame.loc[0, "score"] = pandas.NA
    assert any("failed (no finite score)" in warning for warning in attnbench.verdict(frame).warnings)
    frame.loc[1, "seed"] = pandas.NA
    assert refused(frame) == "scores, row 1: no seed"


def test_where_lower_is_better_the_worst_is_the_highest():
    failed = [*rows(unit="s"), {"arm": "se", "seed": 5, "score": math.nan, "unit": "s"}]
    assert attnbench.verdict(failed, margin=1, higher_is_better=False).cells[0].arm("se").values[-1] == 93.5


def test_a_failed_run_can_score_chance_or_be_dropped_if_that_is_asked_for():
    failed = [*rows(), {"arm": "se", "seed": 5, "score": None}]
    by_chance, dropped = attnbench.verdict(failed, chance=10), attnbench.verdict(failed, failures="drop")
    assert by_chance.cells[0].arm("se").values == [*SE, 10.0]
    assert any("counts as chance, 10.00" in warning for warning in by_chance.warnings)
    assert dropped.cells[0].arm("se").values == SE
    assert any("which flatters an arm that fails" in warning for warning in dropped.warnings)


def test_a_failed_run_is_told_apart_in_the_table_and_in_the_page_and_shifts_no_column(tmp_path):
    found = attnbench.verdict([*rows(), {"arm": "se", "seed": 5, "score": math.nan}])
    write(found, tmp_path)
    runs = csv.DictReader(io.StringIO((tmp_path / "runs.csv").read_text()))
    assert [(run["arm"], run["seed"], run["score"]) for run in runs if run["failed"] == "True"] == [("se", "5", "90.0")]
    assert "<td>90.0 (failed)</td>" in (tmp_path / "index.html").read_text()
    lines = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize("rule", ["worst", "drop"])
def test_nothing_is_compared_with_a_baseline_of_which_every_run_failed(rule):
    found = attnbench.verdict(rows({"none": [math.nan] * 5, "se": SE, "cbam": NONE}), failures=rule)
    assert found.cells[0].baseline is None
    assert any("nothing in this cell is compared" in warning for warning in found.warnings)


def test_an_arm_of_which_runs_fail_is_not_called_equivalent_for_that():
    alike = {"none": [90 + 0.01 * n for n in range(8)], "se": [90 + 0.01 * n for n in range(6)] + [math.nan] * 2}
    alike["bad"] = [20.0] * 8
    kinds = {
        rule: attnbench.verdict(rows(alike), failures=rule).cells[0].arm("se").contrast.verdict.kind
        for rule in ("worst", "drop")
    }
    assert kinds == {"worst": "undecided", "drop": "equivalent"}


# What is told and not refused


def test_seeds_that_some_arms_lack_are_named_in_one_line():
    found = attnbench.verdict(rows({"none": NONE, "se": SE[:3], "cbam": NONE}), unit="%")
    assert found.warnings == (
        "scores: not every arm has every seed: se has 3 of 5 seeds, without 3, 4; all runs count",
    )
    pairs = attnbench.verdict(rows({"none": NONE, "se": SE[:3]}), unit="%", pairing="paired")
    assert pairs.warnings[0].endswith("only seeds that both arms have are compared")


def test_one_run_of_an_arm_decides_nothing_and_that_is_said():
    found = attnbench.verdict(rows({"none": NONE, "se": [99.0]}))
    assert found.cells[0].arm("se").contrast.verdict.kind == "undecided"
    assert any("one run of se: the spread between seeds is unknown" in warning for warning in found.warnings)


def test_columns_that_are_not_read_are_named():
    assert "not read: fold" in attnbench.verdict([{**row, "fold": 1} for row in rows()]).warnings


def test_a_cell_without_the_baseline_is_told_and_the_others_are_compared():
    found = attnbench.verdict(rows(cell="one") + rows({"se": SE, "cbam": SE}, cell="two"))
    assert [cell.baseline is None for cell in found.cells] == [False, True]
    assert any("without its baseline nothing in this cell is compared" in warning for warning in found.warnings)


# The baseline


@pytest.mark.parametrize("name", ["none", "Baseline", "NONE"])
def test_the_arm_called_none_or_baseline_is_the_baseline(name):
    assert attnbench.verdict(rows({"a": SE, name: NONE})).baseline == name


def test_without_such_an_arm_the_baseline_must_be_said():
    scores = rows({"resnet": NONE, "resnet-se": SE})
    assert refused(scores) == "which arm is the baseline? give one of 'resnet', 'resnet-se' (--baseline)"
    assert attnbench.verdict(scores, baseline="resnet").baseline == "resnet"
    assert "did you mean 'resnet'?" in refused(scores, baseline="resent")


# What is refused, in one line for each mistake


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "scores.csv is empty; it needs the columns arm, seed, score"),
        ("arm,seed,score\n", "scores.csv holds no scores, only the names of its columns"),
        ("arm,seed,scores\nnone,0,1\n", "scores.csv: no column 'score'; did you mean 'scores'?"),
        ("arm,score\nnone,1\n", "scores.csv: no column 'seed'"),
        ("arm,seed,score,units\nnone,0,1,s\n", "scores.csv: no column is called 'units'; did you mean 'unit'?"),
        ("arm,seed,score,lower_is_better\nnone,0,1,1\n", "no column is called 'lower_is_better'; did you mean 'hi"),
        ("arm,seed,score\nnone,0,90\n\nse,0,abc\n", "scores.csv, row 4: score 'abc' is not a number"),
        ("arm;seed;score\nnone;0;90,5\n", "scores.csv, row 2: score '90,5' is not a number; write 90.5"),
        ("arm,seed,score\nnone,0,90 %\n", "row 2: score '90 %' is not a number; write 90, and % in a column unit"),
        ("arm,seed,score\nnone,,90\n", "scores.csv, row 2: no seed"),
        ("arm,seed,score\nnone,a,90\n", "scores.csv, row 2: seed 'a' is not a whole number"),
        ("arm,seed,score\n,1,90\n", "scores.csv, row 2: no arm"),
        ("arm,seed,score\nnone,0,90\nnone,1,91\nnone,0,90\n", "row 4: none seed 0 is in row 2 already"),
        ("arm,seed,score,data\na,0,90,x\na,0,90,y\n", "already (a column cell tells data sets apart; not read: data)"),
        ("arm,seed,score\nnone,0\n", "scores.csv, row 2: 2 values for 3 columns"),
        ("arm,seed,score,score\nnone,0,1,1\n", "scores.csv: two columns have one name"),
        ("arm,seed,Score,score\na,0,1,2\n", "scores.csv: 'Score' and 'score' are each read as score; keep one"),
        ("arm,seed,score,higher_is_better\na,0,1,maybe\n", "row 2: higher_is_better 'maybe' is neither true nor false"),
        ("arm,seed,score,unit\nnone,0,1,s\nb,0,1,ms\n", "scores: unit is s and ms in one cell"),
        ("arm,seed,score\nnone,0,nan\nse,0,nan\n", "scores: no run has a finite score"),
        ("arm,seed,score\nnone,0,90\nnone,1,91\n", "only one arm, 'none': there is nothing to compare it with"),
        ("arm,seed,score\nnone,0,900\nse,0,910\n", "scores: a margin is needed (--margin): the largest difference in "),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line_with_the_row(text, said):
    found = refused(table(text))
    assert said in found
    assert len(found.splitlines()) == 1


def test_every_mistake_is_named_at_once_and_many_of_a_kind_are_counted():
    found = refused(table("arm,seed,score\n" + "".join(f"se,{n},x\n" for n in range(9)) + "se,b,1\n")).splitlines()
    assert len(found) == 7
    assert found[5] == "... and 4 more like that"
    assert found[6] == "scores.csv, row 11: seed 'b' is not a whole number"


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"margin": 0}, "margin 0 must be above 0"),
        ({"margin": math.nan}, "margin nan must be above 0"),
        ({"chance": math.inf}, "chance inf must be a finite score"),
        ({"chance": 1.0, "failures": "drop"}, "chance says what a failed run scores"),
    ],
)
def test_terms_that_cannot_be_are_refused(terms, said):
    assert said in refused(rows(), **terms)


@pytest.mark.parametrize("source", [[1, 2], "nowhere.csv", {"arm": ["a"], "seed": [1, 2], "score": [1.0]}])
def test_what_holds_no_scores_is_refused(source):
    assert len(refused(source).splitlines()) == 1


def test_a_file_in_another_encoding_is_refused():
    Path("scores.csv").write_bytes("arm,seed,score\nnoné,0,1\n".encode("utf-16"))
    assert "cannot be read as a CSV file in UTF-8" in refused("scores.csv")


# On the command line


def test_the_verb_prints_the_verdicts_and_writes_the_report_where_it_is_asked_to(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["verdict", str(csv_of(rows())), "--margin", "0.5", "--out", "there"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "se is better than none (+2.60 points" in said
    assert "a margin of 0.5 points" in said
    assert "written: there/index.html and 8 files beside it" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a CSV file, a folder of ultralytics runs, or --mlflow EXPERIMENT; one of them"),
        (["scores.csv", "--mlflow", "x"], "give a CSV file, a folder of ultralytics runs, or --mlflow EXPERIMENT"),
        (["scores.csv", "--metric", "x"], "scores.csv is a table, of which the columns arm, seed and score are taken"),
        (["nowhere.csv"], "nowhere.csv: no such file"),
        (["--mlflow", "x"], "--mlflow needs --metric"),
    ],
)
def test_the_verb_refuses_in_one_line_with_exit_code_2(words, said, capsys):
    csv_of(rows())
    with pytest.raises(SystemExit) as ended:
        main(["verdict", *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_scores_need_neither_torch_nor_mlflow(attnbench, tmp_path):
    import subprocess
    import sys

    code = (
        "import attnbench, sys; rows = [dict(arm=a, seed=s, score=90.0 + s) for a in ('none', 'b') for s in range(3)]; "
        "assert attnbench.verdict(rows).cells; print({'torch', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_a_comparison_of_scores_is_a_comparison():
    assert isinstance(attnbench.verdict(rows()), Comparison)
    assert issubclass(BadScores, AttnbenchError)
