"""`attnbench tune`: as many trials for every arm, on validation images, and a study with each arm's own values."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import made
import numpy as np
import optuna
import pytest
import yaml
from conftest import TINY, wait_for

from attnbench import RunSpec, Runtime, Store, Study, compare
from attnbench.analysis.tuning import Trial, Tuned, best_so_far, expected_best
from attnbench.errors import AttnbenchError, BadStudy
from attnbench.execution import tuning
from attnbench.report.tuning import sheet, write_study
from attnbench.spec.search import FIRST, Search

BASE: dict[str, Any] = {**TINY, "val_fraction": 0.2, "epochs": 1}
SPACE: dict[str, Any] = {
    "lr": {"low": 1e-3, "high": 1.0, "log": True},
    "weight_decay": {"choices": [0.0, 5e-4]},
    "batch_size": {"low": 16, "high": 64},
}
FILE: dict[str, Any] = {
    "name": "searched",
    "base": BASE,
    "grid": {"attention": ["none", "se"]},
    "seeds": 3,
    "trials": 4,
    "space": SPACE,
}


def search(**changed: Any) -> Search:
    return Search(**{**FILE, **changed})


def scored(trials: list[float]) -> list[Trial]:
    point = {"lr": 0.1, "weight_decay": 0.0, "batch_size": 32}
    return [Trial(number, point, score, f"run {number}") for number, score in enumerate(trials)]


@pytest.fixture
def executed(monkeypatch, tmp_path) -> list[RunSpec]:
    """Runs that are made by hand: the better the nearer their learning rate is to 0.1; those above 0.2 diverge."""
    made_of: list[RunSpec] = []

    def execute(sweep, *_):
        for spec in sweep.specs:
            made_of.append(spec)
            wrong = "the loss is inf" if spec.lr > 0.2 else ""
            made.run(Path(sweep.runtime.store), spec, 90 - 5 * abs(np.log10(spec.lr / 0.1)), error=wrong)
        return []

    monkeypatch.setattr(tuning, "execute", execute)
    return made_of


# What a file may ask for


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"space": {}}, "space: {} "),
        ({"space": {"lrr": {"low": 1, "high": 2}}}, "space.lrr: 'lrr' is no field of a recipe that can be tuned; did"),
        ({"space": {"seed": {"low": 1, "high": 2}}}, "space.seed: 'seed' is no field"),
        ({"space": {"lr": {"low": 2, "high": 1}}}, "space.lr: low 2 must be below high 1"),
        ({"space": {"lr": {"low": 0, "high": 1, "log": True}}}, "space.lr: low must be above 0"),
        ({"space": {"lr": {"low": 1}}}, "space.lr: give numbers low and high"),
        ({"space": {"lr": {"low": "a", "high": 1}}}, "space.lr: give numbers low and high"),
        ({"space": {"lr": {"low": 1, "high": 2, "step": 3}}}, "space.lr.step"),
        ({"space": {"lr": {"choices": [1.0], "log": True}}}, "space.lr: choices are a list of two or more"),
        ({"space": {"momentum": {"low": 0.5, "high": 1.0}}}, "space.momentum.high: 1.0"),
        ({"space": {"optimizer": {"choices": ["sgd", "adam"]}}}, "space.optimizer.choices: 'adam' is not one of"),
        ({"base": {**BASE, "lr": 0.1}}, "space.lr: has a value elsewhere in this file"),
        ({"base": {**BASE, "val_fraction": 0.0}}, "base: evaluate: val needs validation images"),
        ({"base": {**BASE, "evaluate": "val"}}, "base.evaluate: trials are scored on validation images anyway"),
        ({"trials": 0}, "trials: 0"),
        ({"sampler": "grid"}, "sampler: 'grid' is not one of"),
        ({"seeds": [FIRST]}, "seeds: seeds from 1,000,000 on are those of searches"),
        ({"spaces": {}}, "unknown field 'spaces'; did you mean 'space'?"),
    ],
)
def test_what_a_search_cannot_be_is_named_with_its_line(changed, said):
    Path("search.yaml").write_text(yaml.safe_dump({**FILE, **changed}, sort_keys=False))
    with pytest.raises(BadStudy) as caught:
        Search.load("search.yaml")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("search.yaml:")
    assert said in line


def test_a_study_file_without_a_space_is_no_search():
    Path("study.yaml").write_text(yaml.safe_dump({"name": "s", "base": BASE}))
    with pytest.raises(BadStudy, match="space: required"):
        Search.load("study.yaml")


# Points


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_points_do_not_depend_on_scores_and_more_trials_add_to_them(sampler):
    plan = search(sampler=sampler)
    every = tuning.points(plan, [], 8)
    assert tuning.points(plan, scored([50.0, 90.0]), 6) == every[2:]
    assert len({json.dumps(point) for point in every}) == 8
    assert all(1e-3 <= point["lr"] <= 1 and isinstance(point["batch_size"], int) for point in every)


def test_points_are_the_same_in_another_process():
    code = (
        "import json, sys\nfrom attnbench.execution.tuning import points\nfrom attnbench.spec.search import Search\n"
        "print(json.dumps(points(Search(**json.loads(sys.argv[1])), [], 3)))"
    )
    told = subprocess.run([sys.executable, "-c", code, json.dumps(FILE)], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == tuning.points(search(), [], 3)


def test_points_that_follow_scores_are_a_function_of_them():
    plan = search(sampler="tpe", trials=30)
    before = [
        Trial(n, point, 90 - 5 * abs(np.log10(point["lr"])), "run")
        for n, point in enumerate(tuning.points(plan, [], 20))
    ]
    assert tuning.points(plan, before, 1) == tuning.points(plan, before, 1)
    mirrored = [Trial(t.number, t.point, -t.score, t.run) for t in before]
    assert tuning.points(plan, before, 1) != tuning.points(plan, mirrored, 1)


# A search


def test_every_arm_tries_the_same_points_and_seeds_and_none_is_tested(executed, tmp_path):
    found = tuning.tune(search(), Runtime(store=str(tmp_path / "runs")))
    assert [(each.arm, len(each.trials)) for each in found] == [("none", 4), ("se", 4)]
    assert [t.point for t in found[0].trials] == [t.point for t in found[1].trials]
    assert {spec.evaluate for spec in executed} == {"val"}
    assert {spec.seed for spec in executed} == {FIRST + number for number in range(4)}
    assert not any(record.test for record in Store(tmp_path / "runs").records())


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_a_search_that_was_done_is_not_done_again_and_finds_the_same(executed, tmp_path, sampler):
    plan, runtime = search(sampler=sampler, trials=12), Runtime(store=str(tmp_path / "runs"))
    first = tuning.tune(plan, runtime)
    count = len(executed)
    assert count == 2 * 12
    journal = {f: len(f.read_bytes()) for f in (tmp_path / "runs" / tuning.FOLDER).glob("*.journal")}
    assert tuning.tune(plan, runtime) == first
    again = executed[count:]
    assert all(Store(runtime.store).record(spec.id).done for spec in again)  # nothing new was asked for
    assert {f: len(f.read_bytes()) for f in journal} == journal


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_trial_that_diverges_scores_chance_level_and_is_no_reason_to_stop(executed, tmp_path, sampler):
    found = tuning.tune(search(trials=8, sampler=sampler), Runtime(store=str(tmp_path / "runs")))
    failed = [trial for trial in found[0].trials if trial.point["lr"] > 0.2]
    assert failed
    assert all(trial.failed and trial.score == 10.0 for trial in failed)
    assert not found[0].best.failed


def test_optunas_journal_holds_every_trial_once(executed, tmp_path):
    plan, runtime = search(), Runtime(store=str(tmp_path / "runs"))
    found = [tuning.tune(plan, runtime) for _ in range(2)][1]
    (file,) = (tmp_path / "runs" / tuning.FOLDER).glob("*.journal")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    studies = {study.study_name: study for study in optuna.get_all_study_summaries(storage)}
    assert len(studies) == 2
    for each in found:
        name = next(name for name in studies if f", {each.arm} (" in name)
        study = optuna.load_study(study_name=name, storage=storage)
        assert [(t.params, t.value, t.user_attrs["run"]) for t in study.trials] == [
            (trial.point, trial.score, trial.run) for trial in each.trials
        ]
        assert study.best_value == each.best.score


def test_a_trial_that_could_not_be_made_is_an_error_that_says_how_to_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "execute", lambda *_: [])
    with pytest.raises(AttnbenchError, match="4 of 4 trials could not be made; the same command goes on"):
        tuning.tune(search(), Runtime(store=str(tmp_path)))


# What it says


def test_the_expected_best_of_n_is_the_mean_over_all_draws_of_n():
    scores = [70.0, 80.0, 80.0, 95.0]
    wanted = [np.mean([max(draw) for draw in itertools.product(scores, repeat=n)]) for n in range(1, 5)]
    assert expected_best(scores) == pytest.approx(wanted)


def test_the_best_so_far_never_falls():
    assert best_so_far([3, 1, 4, 1, 5]).tolist() == [3, 3, 4, 4, 5]


def test_two_cells_that_are_one_run_train_it_once(executed):
    """`none` has no place, so that it is the same run in both."""
    found = tuning.tune(search(grid={"attention": ["none", "se"], "site": ["block", "pre"]}), Runtime(tracker="none"))
    assert len(found) == 4
    assert len({spec.id for spec in executed}) == len(executed)


def test_settings_that_rules_make_one_are_tuned_once_and_their_study_loads(executed, tmp_path):
    """`none` has no site: two of the four picks of the grid are one arm."""
    grid = {"attention": ["none", "se"], "site": [None, "pre"]}
    rules = [{"if": {"site": None}, "set": {"attention": "none"}}, {"if": {"attention": "none"}, "set": {"site": None}}]
    asked = search(grid=grid, where=rules)
    found = tuning.tune(asked, Runtime(tracker="none"))
    assert [each.picked for each in found] == [{"attention": "none", "site": None}, {"attention": "se", "site": "pre"}]
    values = asked.tuned_study([(each.picked, each.best.point) for each in found])
    file = Path("tuned.yaml")
    file.write_text(yaml.safe_dump(values))
    study = Study.load(file)
    assert len({spec.id for spec in study.runs()}) == 2 * 3


def test_a_journal_of_optunas_that_cannot_be_read_costs_nothing_but_its_view(executed, capsys):
    before = tuning.tune(search(), Runtime(tracker="none"))
    (journal,) = Path("runs", tuning.FOLDER).glob("*.journal")
    for broken in ('{"op_code": 0, "wor\n{}\n', "{}\n", "null\n"):
        journal.write_text(broken)
        assert tuning.tune(search(), Runtime(tracker="none")) == before
        assert "the trials are in the runs: delete it for a new one" in capsys.readouterr().err


def test_a_trial_that_failed_is_not_the_best_however_low_the_others_are():
    trials = scored([10.0, 9.7])
    failed = dataclasses.replace(trials[0], failed=True)
    assert Tuned("cell", "se", {}, [failed, trials[1]]).best == trials[1]


def test_an_arm_whose_trials_all_failed_has_no_recipe(executed):
    with pytest.raises(AttnbenchError, match=r"every trial failed of digits, .*: none"):
        tuning.tune(search(space={"lr": {"low": 0.5, "high": 1.0}}), Runtime(tracker="none"))


def test_of_equal_scores_the_first_trial_is_the_best():
    assert Tuned("cell", "se", {}, scored([80, 90, 90])).best.number == 1


def test_a_value_at_the_edge_of_its_range_is_told():
    edge = Trial(0, {"lr": 0.99, "weight_decay": 0.0, "batch_size": 32}, 90.0, "run")
    inside = Trial(0, {"lr": 0.1, "weight_decay": 0.0, "batch_size": 32}, 90.0, "run")
    said = sheet(search(trials=1), [Tuned("c", "none", {}, [edge]), Tuned("c", "se", {}, [inside])]).markdown()
    assert "none: lr lies at the edge of its range" in said
    assert "se: " not in said


# The study that it leaves


def left(found: list[Tuned], plan: Search) -> Study:
    write_study(plan, found, Path("tuned.yaml"))
    return Study.load("tuned.yaml")


def test_the_tuned_study_gives_each_arm_its_values_and_fresh_seeds(executed, tmp_path):
    plan = search(looks=[2, 3], pairing="paired", margin=0.5)
    found = tuning.tune(plan, Runtime(store=str(tmp_path / "runs")))
    found[1].trials[:] = [*found[1].trials[1:]]  # another best, so that the arms differ
    study = left(found, plan)
    assert (study.looks, study.pairing, study.margin, study.tuned) == ([2, 3], "paired", 0.5, [*SPACE])
    for each in found:
        runs = [spec for spec in study.runs() if spec.attention == each.arm]
        assert len(runs) == 3
        for spec in runs:
            assert {name: getattr(spec, name) for name in SPACE} == each.best.point
            assert spec.seed < FIRST
            assert spec.evaluate == "test"


def test_arms_with_their_own_values_are_compared_in_one_cell(tmp_path):
    points = [{"lr": 0.1, "weight_decay": 0.0, "batch_size": 32}, {"lr": 0.01, "weight_decay": 5e-4, "batch_size": 16}]
    plan = search()
    picked = [{"attention": "none"}, {"attention": "se"}]
    found = [
        Tuned("c", pick["attention"], pick, [Trial(0, point, 90.0, "run")])
        for pick, point in zip(picked, points, strict=True)
    ]
    study = left(found, plan)
    made.fill(tmp_path / "runs", study)
    (cell,) = compare(study, Store(tmp_path / "runs")).cells
    assert [arm.name for arm in cell.arms] == ["none", "se"]
    assert cell.arms[1].contrast is not None
    assert "lr tuned for each arm" in cell.regime


def test_a_search_of_one_arm_leaves_its_values_under_base(executed, tmp_path):
    plan = search(grid={}, base={**BASE, "attention": "se"}, baseline="se")
    study = left(tuning.tune(plan, Runtime(store=str(tmp_path / "runs"))), plan)
    assert len(study.runs()) == 3
    assert study.base["lr"] != 1e-3


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tuned": ["epochs"]}, "tuned: 'epochs' is no field that can be tuned"),
        ({"tuned": ["lr"], "grid": {"lr": [0.1, 0.2]}}, "tuned: an arm has several values of lr"),
    ],
)
def test_what_cannot_be_an_arms_own_is_refused(keys, said):
    with pytest.raises(BadStudy, match=said):
        Study(name="s", base={"dataset": "digits"}, **keys)


# From the command line


@pytest.mark.slow
def test_a_search_goes_on_after_sigkill_and_finds_what_it_would_have_found(attnbench, data_dir):
    Path("search.yaml").write_text(yaml.safe_dump({**FILE, "trials": 2}))
    flags = ["--tracker", "none", "--data-dir", str(data_dir)]
    command = [sys.executable, "-m", "attnbench", "tune", "search.yaml", *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: list(Path("runs").glob("*/record.json")) or process.poll() is not None)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not Path("reports").exists()
    resumed = attnbench("tune", "search.yaml", *flags)
    whole = attnbench("tune", "search.yaml", *flags, "--store", "whole", "--out", "whole-report")
    assert (resumed.returncode, whole.returncode) == (0, 0), resumed.stderr + whole.stderr
    for name in ("tuned.yaml", "tune.csv", "tune.md"):
        assert Path("reports/searched", name).read_text() == Path("whole-report", name).read_text()
    records = Store("runs").records()
    assert len(records) == 2 * 2
    assert not any(record.test for record in records)
    assert not any(line["event"] == "test" for record in records for line in Store("runs").journal(record.id))


def test_tune_foretells_its_trials_without_training(attnbench, data_dir):
    Path("search.yaml").write_text(yaml.safe_dump(FILE))
    told = attnbench("tune", "search.yaml", "--dry-run", "--data-dir", data_dir)
    assert (told.returncode, told.stderr) == (0, "")
    assert "searched search: 8 runs, 0 done, 8 left" in told.stdout
    assert not list(Path().glob("runs/*/record.json"))


def test_a_mistake_in_a_search_is_one_line(attnbench):
    Path("search.yaml").write_text(yaml.safe_dump({**FILE, "trials": "many"}))
    done = attnbench("tune", "search.yaml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "search.yaml:" in done.stderr
