"""`attnbench power`: what a design can say before it is trained."""

import csv
import math
from pathlib import Path

import made
import numpy as np
import pytest
import yaml

from attnbench import Study
from attnbench.analysis.plan import Design
from attnbench.analysis.power import POWER, detectable, further_seeds, probability, smallest_p
from attnbench.analysis.prospects import SURE, Prospect, Spread, prospects
from attnbench.report.prospects import sheet

STUDY = {"name": "planned", "base": {"dataset": "digits", "epochs": 3, "backbone": "resnet20"}, "seeds": 6}


def study(**changed) -> Study:
    return Study(**{**STUDY, "grid": {"attention": ["none", "se", "cbam"]}, **changed})


@pytest.mark.parametrize(
    ("seeds", "family", "pairing"), [(5, 1, "independent"), (8, 3, "independent"), (9, 2, "paired")]
)
def test_the_detectable_difference_is_found_with_80_percent(seeds, family, pairing):
    size = detectable(seeds, seeds, family, pairing)
    assert probability(size, seeds, seeds, family, pairing) == pytest.approx(POWER)


def test_a_design_that_cannot_decide_finds_nothing_however_large():
    assert smallest_p(3, 3) > 0.05
    assert probability(100.0, 3, 3) == 0.0


@pytest.mark.parametrize("size", [0.5, 1.0, 2.0, 4.0])
def test_the_seeds_for_a_difference_are_the_fewest_that_find_it(size):
    prospect = Prospect(Design(5, 3, 1.0, "independent"))
    enough = prospect.seeds_for(size)
    assert prospect.found(size, enough) >= POWER > prospect.found(size, enough - 1)


def test_nobody_is_asked_for_more_than_a_thousand_seeds():
    assert Prospect(Design(5, 1, 1.0, "independent")).seeds_for(0.01) is None


def test_the_spread_is_pooled_over_the_done_runs_of_the_studys_cells(tmp_path):
    plan = study()
    records = made.fill(tmp_path, plan)
    others = made.fill(tmp_path, study(base={**STUDY["base"], "epochs": 4}))
    (found,) = prospects(plan, [*records, *others])
    arms = [[r.accuracy for r in records if r.spec["attention"] == name] for name in ("none", "se", "cbam")]
    assert found.spread.points == pytest.approx(math.sqrt(np.mean([np.var(arm, ddof=1) for arm in arms])))
    assert found.spread.freedom == 3 * 5


def test_pairs_have_the_spread_of_their_differences(tmp_path):
    plan = study(pairing="paired", grid={"attention": ["se", "none"]})
    records = made.fill(tmp_path, plan)
    none, se = ([r.accuracy for r in records if r.spec["attention"] == name] for name in ("none", "se"))
    (found,) = prospects(plan, records)
    assert found.spread.points == pytest.approx(np.std(np.subtract(se, none), ddof=1))


def test_a_spread_that_is_given_counts_alone(tmp_path):
    (found,) = prospects(study(), made.fill(tmp_path, study()), 2.0)
    assert (found.spread.points, found.sizes[1]) == (2.0, 0.5)


def test_every_size_of_family_has_its_own_prospect():
    plan = study(
        grid={"dataset": ["digits", "FashionMNIST"], "attention": ["none", "se", "cbam"]},
        where=[{"if": {"dataset": "digits", "attention": "cbam"}, "set": {"attention": "se"}}],
    )
    assert [each.design.family for each in prospects(plan)] == [1, 2]


def test_more_seeds_decide_a_smaller_spread_sooner():
    design = Design(5, 2, 1.0, "independent")
    few, many = (Prospect(design, Spread(points)).seeds_to_decide for points in (0.5, 1.0))
    assert few < many
    assert Prospect(design).seeds_to_decide is None


def test_the_seeds_that_decide_are_counted_at_the_level_of_the_only_look():
    design = Design(5, 2, 1.0, "independent")
    assert design.level == pytest.approx(0.04)
    each = design.level / design.family
    found = further_seeds(0.8, SURE, 0, 1.0, 2, "independent", lambda _: (each, each))
    assert Prospect(design, Spread(0.8)).seeds_to_decide == found


def test_a_sheet_without_a_spread_asks_for_it_and_counts_in_deviations():
    text = sheet("planned", prospects(study())).markdown()
    assert "give --spread POINTS" in text
    assert "| 2 | - | 1.00 |" in text


def written(**keys) -> Path:
    file = Path("study.yaml")
    file.write_text(yaml.safe_dump({**STUDY, "grid": {"attention": ["none", "se"]}, **keys}))
    return file


def test_power_writes_its_sheet_without_training_anything(attnbench):
    done = attnbench("power", written(), "--spread", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the spread between seeds is 0.50 points" in done.stdout
    folder = Path("reports/planned")
    assert {file.name for file in folder.iterdir()} == {f"power.{e}" for e in ("html", "md", "csv", "svg", "pdf")}
    rows = list(csv.DictReader((folder / "power.csv").read_text().splitlines()))
    assert [float(row["points"]) for row in rows] == [0.5, 1.0, 1.5, 2.0, 3.0]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("keys", "flags", "said"),
    [
        ({}, ["--spread", "0"], "must be a positive number"),
        ({"grid": {"attention": ["none"]}}, [], "nothing is compared"),
        ({"seeds": 0}, [], "study.yaml:"),
    ],
)
def test_what_power_cannot_do_is_said_in_one_line(attnbench, keys, flags, said):
    done = attnbench("power", written(**keys), *flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
