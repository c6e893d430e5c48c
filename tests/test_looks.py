"""When there are verdicts: at the looks of a plan, by the results of the look that decides. What failed runs count."""

import math
from dataclasses import replace
from pathlib import Path

import handmade
import made
import numpy as np
import pytest
from handmade import stored

from attnbench import Store, Study, compare
from attnbench.analysis.cells import cell_of
from attnbench.analysis.comparison import Comparison, needed
from attnbench.analysis.looks import History, follow
from attnbench.analysis.plan import Plan
from attnbench.analysis.recorded import seen_now
from attnbench.analysis.sample import Sample
from attnbench.analysis.stats import difference
from attnbench.analysis.verdicts import contrasts
from attnbench.report import html, markdown, write
from attnbench.report.evidence import decomposition
from attnbench.report.tables import verdicts
from attnbench.store.studies import StudyJournal

LEVEL = np.array([90.0, 90.5, 91.0, 90.25, 90.75, 90.5, 91.25, 90.0, 90.5, 91.0, 90.25, 90.75])
FAR = LEVEL + 3
WIDE = np.array([0.3, -0.3] * 6)
LATE = LEVEL + WIDE + np.array([0.55] * 10 + [1.1] * 2)
"""An arm that is undecided at first, and better when all its seeds are there."""
SAME = LEVEL[::-1]
GROWN = {"cbam": LEVEL + WIDE + np.array([0.8] * 5 + [1.2] * 7)}
"""The same, where all its seeds are a second look that nobody planned."""
ARMS = {"none": LEVEL, "se": FAR, "cbam": LATE, "eca": SAME}


def study(**changed) -> Study:
    base = {"dataset": "digits", "epochs": 3}
    fields = {"base": base, "grid": {"attention": [*ARMS]}, "seeds": len(LEVEL), "looks": [8, 10, 12], "margin": 0.3}
    return Study(name="plan", **{**fields, **changed})


def fill(counts: dict[str, int], failed: tuple[tuple[str, int], ...] = (), values=ARMS) -> Store:
    """So many results of each arm, in the store `runs`."""
    given = {"input": {"classes": 10}}
    return stored(
        handmade.record(arm, seed, 0.0, status="failed", test={}, error="loss is nan")
        if (arm, seed) in failed
        else handmade.record(arm, seed, float(values[arm][seed]), **given)
        for arm, count in counts.items()
        for seed in range(count)
    )


def every(n: int) -> dict[str, int]:
    return dict.fromkeys(ARMS, n)


def stand(found: Comparison) -> dict[str, tuple[str, int]]:
    """Each arm's verdict, and how many of its results that is about."""
    (cell,) = found.cells
    return {
        arm.name: ("not yet" if arm.contrast.verdict.waiting else arm.contrast.verdict.kind, arm.score.n)
        for arm in cell.arms
        if arm.contrast
    }


def answers(found: Comparison) -> list[object]:
    """All that the verdicts say."""
    return [(arm.name, arm.contrast.verdict, arm.contrast.difference) for arm in found.cells[0].arms if arm.contrast]


# Looks


@pytest.mark.parametrize("n", [2, 7])
def test_before_the_first_look_there_are_estimates_and_no_verdict(n):
    found = compare(study(), fill(every(n)))
    assert stand(found) == dict.fromkeys(["se", "cbam", "eca"], ("not yet", n))
    for arm in found.cells[0].arms[1:]:
        gap, verdict = arm.contrast.difference, arm.contrast.verdict
        assert gap.mean == pytest.approx(np.mean((ARMS[arm.name] - LEVEL)[:n]))
        assert gap.low < gap.high
        assert all(map(math.isnan, (gap.p_value, verdict.p_value, verdict.equivalence_p)))
        assert (verdict.kind, verdict.further) == ("undecided", None)
    said = verdicts(found)
    assert all(": not yet (" in each for each in said)
    assert all(f"verdicts are given at 8 seeds, {n} are done." in each and " p " not in each for each in said)


def test_without_looks_there_are_verdicts_when_all_planned_seeds_are_there():
    plan = study(looks=None)
    assert set(stand(compare(plan, fill(every(11)))).values()) == {("not yet", 11)}
    found = compare(plan, fill(every(12)))
    assert {n for _, n in stand(found).values()} == {12}
    assert found.cells[0].waiting is None
    assert answers(found) == answers(compare(Store("runs").records(), plan=Plan.of(plan)))


def test_an_arm_is_decided_at_the_first_look_that_decides_it_by_the_runs_of_that_look():
    found = compare(study(), fill(every(12)))
    assert stand(found) == {"se": ("better", 8), "cbam": ("better", 12), "eca": ("undecided", 12)}
    se = found.cells[0].arm("se").contrast
    assert se.difference.mean == pytest.approx(difference(FAR[:8], LEVEL[:8]).mean)
    assert (se.difference.n, se.difference.n_baseline) == (8, 8)
    assert "the verdict on se is about its first 8 seeds, and its 4 later runs are not used" in markdown(found)


def test_runs_that_a_decided_arm_never_had_are_not_missing_and_the_report_is_the_same():
    whole = compare(study(), fill(every(12)))
    for record in Store("runs").records():
        if record.spec["attention"] == "se" and record.spec["seed"] >= 8:
            (Path("runs") / record.id / "record.json").unlink()
    dropped = compare(study(), Store("runs"))
    assert dropped.missing == 0
    assert answers(dropped) == answers(whole)


def test_between_two_looks_what_is_open_waits_and_what_is_decided_stays():
    found = compare(study(), fill({**every(9), "se": 8}))
    assert stand(found) == {"se": ("better", 8), "cbam": ("not yet", 9), "eca": ("not yet", 9)}
    assert "verdicts are given at 10 seeds, 9 are done" in markdown(found)
    assert found.missing == 3 * 3


def test_an_arm_that_waits_is_not_yet_wherever_its_page_names_it():
    root = made.tree(html(compare(study(), fill({**every(9), "se": 8}))))
    folded = [made.text(one) for one in root.iter("summary")]
    assert "2 not yet" in folded
    assert not [said for said in folded if "undecided" in said]
    badges = [(one.get("class"), one.text) for one in root.iter("strong") if "badge" in one.get("class", "")]
    assert badges == [("badge better", "better"), *[("badge not-yet", "not yet")] * 2]
    rows = made.specs_of(root)["01-differences"]["datasets"]["rows"]
    assert {row["arm"]: row["verdict"] for row in rows} == {"se": "better", "cbam": "not yet", "eca": "not yet"}


def test_the_parts_of_a_gain_add_up_to_it_where_its_arm_was_decided_early():
    """By the runs that the gain is of, though the baseline has got more since."""
    values = {"none": LEVEL, "se": FAR, "constant": SAME, "static": LATE}
    found = compare(study(grid={"attention": [*values]}), fill(dict.fromkeys(values, 12), values=values))
    (cell,) = found.cells
    se = cell.arm("se")
    assert (se.score.n, cell.arm("none").score.n) == (8, 12)
    steps = [step for step in decomposition(cell) if step.arm == "se"]
    assert [step.part for step in steps] == ["scale", "parameters", "input dependence"]
    assert sum(step.estimate.mean for step in steps) == pytest.approx(se.difference.mean)


def test_at_a_look_there_are_verdicts_though_a_later_one_is_to_come():
    found = compare(study(), fill(every(8)))
    assert stand(found) == {"se": ("better", 8), "cbam": ("undecided", 8), "eca": ("undecided", 8)}
    assert all(map(math.isfinite, (arm.contrast.verdict.p_value for arm in found.cells[0].arms if arm.contrast)))


def test_a_look_waits_for_every_open_arm_and_names_the_one_it_waits_for():
    found = compare(study(), fill({**every(8), "eca": 3}))
    assert {kind for kind, _ in stand(found).values()} == {"not yet"}
    said = {each.split(": ")[1].split(" ")[0]: each for each in verdicts(found)}
    assert "verdicts are given at 8 seeds, of which eca has 3." in said["se"]
    assert "verdicts are given at 8 seeds, 3 are done." in said["eca"]


def test_an_arm_of_which_nothing_is_there_is_waited_for():
    found = compare(study(), fill({arm: 8 for arm in ARMS if arm != "eca"}))
    assert "verdicts are given at 8 seeds, of which eca has 0." in verdicts(found)[0]


def test_any_is_a_look_after_every_seed_and_stops_an_arm_at_the_one_that_decides_it():
    plan = study(looks="any", grid={"attention": ["none", "se"]})
    (kind, n) = stand(compare(plan, fill(every(12))))["se"]
    assert kind == "better"
    assert n < 12
    for record in Store("runs").records():
        if record.spec["seed"] == n - 1:
            (Path("runs") / record.id / "record.json").unlink()
    before = compare(plan, Store("runs"))
    assert before.cells[0].waiting.at == n
    assert before.cells[0].arm("se").contrast.verdict.kind == "undecided"


def test_the_seeds_of_a_look_are_the_first_of_the_list_in_the_file():
    seeds = [9, 0, 4, 1, 7, 2, 3, 5, 6, 8, 10, 11]
    found = compare(study(seeds=seeds), fill(every(12)))
    se = found.cells[0].arm("se")
    assert sorted(se.sample.seeds) == sorted(seeds[:8])


def test_two_arms_of_which_one_waits_have_no_verdict_between_them():
    (cell,) = compare(study(), fill({**every(9), "se": 8})).cells
    assert cell.between(cell.arm("cbam"), cell.arm("eca")).verdict.waiting.at == 10
    assert cell.between(cell.baseline, cell.arm("cbam")).verdict.waiting.at == 10
    assert cell.between(cell.baseline, cell.arm("se")).verdict.kind == "worse"


def test_what_is_still_needed_are_the_open_arms_and_the_baseline():
    found = compare(study(), fill(every(8)))
    runs = needed(study(), found.decided, 10)
    left = ("none", "cbam", "eca")
    assert {(spec.attention, spec.seed) for spec in runs} == {(arm, seed) for arm in left for seed in range(10)}
    assert [spec.seed for spec in runs] == sorted(spec.seed for spec in runs)
    assert needed(study(), dict.fromkeys(found.places, "better")) == []


# Looks that people had


def look(plan: Study) -> Comparison:
    """Read a report."""
    found = compare(plan, Store("runs"))
    StudyJournal(Store("runs"), plan.slug).keep_look(seen_now(found.cells))
    return found


def test_seeds_that_are_added_after_a_look_are_a_second_look():
    small, large = (study(looks=None, seeds=n) for n in (5, 12))
    fill(every(5), values=ARMS | GROWN)
    first = look(small)
    fill(every(12), values=ARMS | GROWN)
    assert stand(look(large)) == {"se": ("better", 5), "cbam": ("better", 12), "eca": ("undecided", 12)}
    one, two = (found.cells[0].arm("se").contrast for found in (look(large), first))
    assert (one.verdict.kind, one.difference) == (two.verdict.kind, two.difference)
    (one, two) = StudyJournal(Store("runs"), "plan").looks()  # se was decided at the first
    (seen,) = one.seen.values()
    assert seen == {name: (0, 1, 2, 3, 4) for name in ("none", "se site=block", "cbam site=block", "eca site=block")}
    (later,) = two.seen.values()
    assert {arm: len(seeds) for arm, seeds in later.items()} == dict.fromkeys(
        ["none", "cbam site=block", "eca site=block"], 12
    )


def test_seeds_that_nobody_had_seen_before_are_one_look():
    fill(every(12))
    assert {n for _, n in stand(look(study(looks=None))).values()} == {12}


def test_while_seeds_are_added_the_open_arms_wait_and_that_is_no_look():
    fill(every(5))
    look(study(looks=None, seeds=5))
    fill(every(7))
    found = look(study(looks=None))
    assert stand(found) == {"se": ("better", 5), "cbam": ("not yet", 7), "eca": ("not yet", 7)}
    assert len(StudyJournal(Store("runs"), "plan").looks()) == 1


def test_a_folder_of_records_has_looks_of_its_own():
    store = fill(every(5), values=ARMS | GROWN)
    first = compare(store.records(), store, Plan(margin=0.3))
    StudyJournal(store).keep_look(seen_now(first.cells))
    fill(every(12), values=ARMS | GROWN)
    grown = compare(store.records(), store, Plan(margin=0.3))
    assert stand(grown) == {"se": ("better", 5), "cbam": ("better", 12), "eca": ("undecided", 12)}
    assert {n for _, n in stand(compare(store.records(), plan=Plan(margin=0.3))).values()} == {12}


def test_compare_in_python_writes_nothing():
    store = fill(every(5))
    compare(study(), store)
    compare(store.records(), store)
    assert not (store.path / "studies").exists()


def test_a_look_at_which_nothing_of_an_arm_was_new_costs_it_nothing():
    """As where a run failed and is left out, or where only another arm has got more seeds."""
    samples = {name: sample(name, values) for name, values in ARMS.items() if name in ("none", "cbam", "eca")}
    five, twelve = (tuple(range(n)) for n in (5, 12))
    seen = [dict.fromkeys(samples, five), {"none": twelve, "cbam": twelve, "eca": five}]
    found = {}
    for times in (1, 2):
        history = History(dict.fromkeys(samples, twelve), [*seen[:1], *seen[1:] * (times - 1)])
        found[times] = follow(samples, "none", Plan(), history.agenda(samples, "none", Plan())).contrasts["cbam"]
    assert found[1].difference == found[2].difference
    assert found[1].verdict.alone == found[2].verdict.alone


@pytest.mark.parametrize("more", [5, 12])
def test_a_look_that_saw_nothing_of_an_arm_costs_it_nothing(more):
    """An arm that is added after a look is told as if the share of that look had been kept for it."""
    samples = {name: sample(name, ARMS[name][:more]) for name in ("none", "se", "cbam")}
    wanted = dict.fromkeys(samples, tuple(range(more)))
    history = History(wanted, [{name: tuple(range(5)) for name in ("none", "se")}])
    found = follow(samples, "none", Plan(), history.agenda(samples, "none", Plan())).contrasts["cbam"]
    (one, two), (_, share) = (samples["cbam"].values, LEVEL[:more]), (0.8, 0.9 if more > 5 else 0.8)
    assert found.verdict.alone.p_value == pytest.approx(difference(one, two).p_value / share)


@pytest.mark.parametrize("failures", ["worst", "drop"])
def test_an_arm_or_a_baseline_whose_first_runs_failed_is_told_at_the_looks_that_saw_it(failures):
    plan = Plan(looks=(5, 8), failures=failures)
    for lost in ("none", "se"):
        samples = {name: sample(name, ARMS[name][:8]) for name in ("none", "se")}
        samples[lost] = replace(samples[lost], failed=frozenset(range(5)))
        cell = cell_of("cell", samples, plan)
        assert cell.baseline is None or cell.baseline.key == "none"
        assert cell.arm("se").contrast.verdict.kind in ("better", "worse", "undecided")


def test_seeds_that_were_taken_out_and_put_back_leave_the_looks_readable():
    samples = {name: sample(name, ARMS[name][:8]) for name in ("none", "se", "cbam")}
    eight, five = tuple(range(8)), tuple(range(5))
    seen = [dict.fromkeys(("none", "se"), eight), dict.fromkeys(samples, five)]
    history = History(dict.fromkeys(samples, eight), seen)
    found = follow(samples, "none", Plan(), history.agenda(samples, "none", Plan()))
    assert found.contrasts["se"].verdict.kind == "better"


def test_two_arms_of_a_cell_without_its_baseline_are_an_estimate_and_no_verdict():
    """Nothing is kept of a look at it, so that each would spend the whole error."""
    cell = cell_of("cell", {name: sample(name, ARMS[name][:5]) for name in ("se", "eca")}, Plan())
    found = cell.between(cell.arm("se"), cell.arm("eca"))
    assert math.isnan(found.verdict.p_value)
    assert (found.verdict.waiting.arm, found.verdict.waiting.at) == ("none", 5)


# Failed runs

LOST = (("cbam", 1), ("cbam", 3))


@pytest.mark.parametrize("failures", ["worst", "drop"])
def test_a_failed_run_scores_chance_level_or_is_left_out_as_declared(failures, tmp_path):
    found = compare(study(looks=[5], seeds=5, failures=failures), fill(every(5), LOST))
    cbam = found.cells[0].arm("cbam")
    kept = LATE[[0, 2, 4]]
    scores = [LATE[0], 10.0, LATE[2], 10.0, LATE[4]] if failures == "worst" else kept
    assert cbam.values == pytest.approx(list(scores))
    assert cbam.difference.mean == pytest.approx(np.mean(scores) - LEVEL[:5].mean())
    assert (cbam.failed, len(cbam.seeds), found.missing) == ((1, 3), 5, 0)
    said = "and score chance level, 10 %" if failures == "worst" else "and are left out"
    sentences = {each.split(": ")[1].split(" ")[0]: each for each in verdicts(found)}
    assert f"; 2 of 5 runs of cbam failed {said}" in sentences["cbam"]
    assert "failed" not in sentences["se"]
    n = 5 if failures == "worst" else 3
    assert f"| cbam | {n} (2 failed) |" in markdown(found)
    pages = {file.name: file for file in write(found, tmp_path / "report")}
    for name in ("index.html", "table.md", "table.tex"):
        assert "2 of 5 runs of cbam failed" in pages[name].read_text() or f"{n} (2 failed)" in pages[name].read_text()
    assert ",2," in pages["cells.csv"].read_text()


def test_failures_of_the_baseline_are_told_with_every_arm():
    found = compare(study(looks=[5], seeds=5), fill(every(5), (("none", 2),)))
    told = [said for said in verdicts(found) if " against none " in said]
    assert ["; 1 of 5 runs of none failed and scores chance level, 10 %" in said for said in told] == [True] * 3


@pytest.mark.parametrize("failures", ["worst", "drop"])
def test_failures_after_the_look_that_decided_an_arm_are_not_told_with_it(failures):
    ran = {"none": 10, "se": 8, "cbam": 10, "eca": 10}
    found = compare(study(looks=[8, 10], seeds=10, failures=failures), fill(ran, (("none", 9),)))
    told = {name: next(each for each in verdicts(found) if f": {name} " in each) for name in ("se", "cbam")}
    assert "look at 8 of" in told["se"]
    assert "failed" not in told["se"]
    assert "1 of 10 runs of none failed" in told["cbam"]


@pytest.mark.parametrize(("lost", "told"), [(9, "1 of 6 runs of none failed"), (5, "")])
def test_failures_are_those_of_the_runs_that_a_look_saw_in_whatever_order_seeds_are_listed(lost, told):
    found = compare(study(looks=[5, 6], seeds=[9, 1, 2, 3, 4, 5]), fill(every(10), (("none", lost),)))
    se = next(each for each in verdicts(found) if ": se " in each)
    assert told in se
    assert ("failed" in se) == bool(told), "where the look at 5 seeds decided, which the seed listed last is not of"


def test_where_every_run_is_a_look_and_failed_runs_drop_equal_seeds_are_compared():
    plan = study(looks="any", seeds=6, failures="drop", grid={"attention": ["none", "se"]})
    far = compare(plan, fill({"none": 6, "se": 6}, (("se", 1),))).cells[0].arm("se").contrast
    assert (far.one.seeds, far.two.seeds) == ((0, 2, 3, 4, 5), (0, 2, 3, 4, 5))


def test_an_arm_whose_every_run_failed_is_worse_and_not_left_out(tmp_path):
    found = compare(study(looks=[5], seeds=5), fill(every(5), tuple(("cbam", seed) for seed in range(5))))
    assert stand(found)["cbam"] == ("worse", 5)
    assert "| cbam | 5 (5 failed) | 10.00 |" in markdown(found)
    write(found, tmp_path / "report")


def test_a_control_whose_every_run_failed_is_no_candidate(tmp_path):
    plan = study(grid={"attention": ["none", "se", "constant"]}, looks=[5], seeds=5)
    records = made.fill(tmp_path, plan)
    for record in records:
        if record.spec["attention"] == "constant":
            made.fail(tmp_path, record)
    (cell,) = compare(plan, Store(tmp_path)).cells
    assert [(arm.name, arm.control) for arm in cell.arms] == [("none", False), ("se", False), ("constant", True)]


def test_without_the_baseline_and_with_an_arm_that_failed_throughout_a_report_is_written(tmp_path):
    lost = tuple(("cbam", seed) for seed in range(5))
    files = write(compare(study(looks=[5], seeds=5), fill({"se": 5, "cbam": 5}, lost)), tmp_path / "report")
    assert "without its baseline nothing in this cell is compared" in files[0].read_text()


def test_the_recipe_of_a_page_names_the_value_of_each_arm_where_one_was_tuned():
    made = [
        handmade.record(arm, seed, 90.0 + seed, {"lr": lr})
        for arm, lr in (("none", 0.1), ("se", 0.02))
        for seed in range(3)
    ]
    for run in made[:3]:
        del run.spec["backbone_lr"]  # of runs of before there was such a field
    page = html(compare(made, plan=Plan(tuned=("lr", "backbone_lr"))))
    assert "0.1 (none) and 0.02 (se)" in page
    assert "1.0 (none) and 1.0 (se)" in page


@pytest.mark.parametrize(("arm", "failures"), [("none", "worst"), ("none", "drop"), ("cbam", "drop")])
def test_an_arm_without_any_score_is_not_compared_and_that_is_said(arm, failures, tmp_path):
    found = compare(
        study(looks=[5], seeds=5, failures=failures), fill(every(5), tuple((arm, seed) for seed in range(5)))
    )
    assert arm not in [each.name for each in found.cells[0].arms]
    assert sum("no run of this arm is done" in warning for warning in found.warnings) == 5
    write(found, tmp_path / "report")


def test_failed_runs_of_a_cell_without_any_done_run_are_told():
    found = compare(study(), fill({"se": 2}, (("se", 0), ("se", 1))))
    assert found.cells == ()
    assert ["se seed 0 failed: loss is nan" in warning for warning in found.warnings] == [True, False]


def test_on_new_images_a_failed_run_is_right_by_chance_on_each_image():
    labels = np.arange(200) % 10
    rng = np.random.default_rng(0)
    said = np.where(rng.random((4, 200)) < 0.9, labels, (labels + 1) % 10)
    said[2] = -1
    values = 100.0 * (said == labels).mean(1)
    values[2] = 10.0
    arm = Sample("se", (0, 1, 2, 3), values, said, labels, failed=frozenset({2}))
    whole = arm.by("drop")
    assert (whole.seeds, whole.failed) == ((0, 1, 3), frozenset())
    other = Sample("none", (0, 1, 2, 3), values[[0, 1, 3, 0]], said[[0, 1, 3, 0]], labels)
    for rule in ("worst", "drop"):
        (found,) = contrasts([arm], other, Plan(failures=rule))
        assert found.new_images.mean == pytest.approx(arm.by(rule).values.mean() - other.values.mean())
        assert found.churn.n == 3
    assert arm.right.mean(1) == pytest.approx(values)


def test_predictions_of_failed_runs_are_kept_apart_when_seeds_are_chosen():
    arm = Sample("se", (4, 7, 9), np.array([90.0, 10.0, 91.0]), failed=frozenset({7}))
    assert arm.at([9, 7]).failed == {7}
    assert arm.at([9, 4]).failed == frozenset()


# The walk itself


def sample(name: str, values, seeds=None) -> Sample:
    return Sample(name, tuple(seeds or range(len(values))), np.array(values))


def test_a_later_look_is_of_the_arms_that_the_earlier_left_open():
    samples = {name: sample(name, values) for name, values in ARMS.items()}
    plan = Plan(margin=0.3, looks=(8, 12))
    agenda = History({name: tuple(range(12)) for name in ARMS}).agenda(samples, "none", plan)
    assert [at.size for at in agenda.looks] == [8, 12]
    found = follow(samples, "none", plan, agenda)
    assert {name: len(found.samples[name].seeds) for name in ARMS} == {"none": 12, "se": 8, "cbam": 12, "eca": 12}
    assert found.waiting is None


def test_a_look_at_the_same_results_is_no_other_look():
    samples = {name: sample(name, values[:8]) for name, values in ARMS.items()}
    same = {name: tuple(range(8)) for name in ARMS}
    once, twice = (History(same, [same] * n).agenda(samples, "none", Plan()) for n in (0, 2))
    assert once == twice


def test_scores_that_are_fewer_than_a_look_takes_wait_for_it():
    samples = {name: sample(name, values[:9]) for name, values in ARMS.items()}
    plan = Plan(margin=0.3, looks=(8, 12))
    found = follow(samples, "none", plan, History[str]().agenda(samples, "none", plan))
    assert (found.waiting.at, found.waiting.done) == (12, 9)
