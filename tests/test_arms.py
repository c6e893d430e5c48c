"""An arm is what it is wherever its mechanism goes: as baseline and as arm, in studies, comparisons and reports."""

from pathlib import Path

import made
import pytest

from attnbench import Store, Study, compare
from attnbench.analysis.comparison import designs
from attnbench.errors import BadStudy, StoreProblem
from attnbench.report.evidence import decomposition
from attnbench.report.pairs import pair
from attnbench.report.sentences import because
from attnbench.report.tables import markdown
from attnbench.spec.run import RunSpec

ELSEWHERE = [{"site": "pre"}, {"stages": [1, 2]}, {"every": 2}, {"init": "identity"}]
PLACED = pytest.mark.parametrize("where", ELSEWHERE, ids=lambda where: next(iter(where)))
ARMS = ["none", "se", "constant", "static", "random"]
LABELS = {"site": "site=pre", "stages": "stages=1,2", "every": "every=2", "init": "init=identity"}


def study(where: dict, **changed) -> Study:
    base = {"dataset": "digits", "backbone": "resnet20", "epochs": 3, **where}
    return Study(name="placed", **{"base": base, "grid": {"attention": ARMS}, "seeds": 6, **changed})


def label(attention: str, where: dict) -> str:
    return f"{attention} {LABELS[next(iter(where))]}"


def compared(plan: Study):
    made.fill(Path("runs"), plan)
    return compare(plan, Store("runs"))


@PLACED
def test_every_arm_of_a_study_is_compared_with_the_plain_network(where):
    found = compared(study(where))
    (cell,) = found.cells
    assert [arm.name for arm in cell.arms] == ["none", *(label(name, where) for name in sorted(ARMS[1:]))]
    assert [arm.contrast is None for arm in cell.arms] == [True, False, False, False, False]
    assert [design.family for design in designs(study(where))] == [4]
    assert [text for text in found.warnings if "still rise" not in text] == []


@PLACED
def test_a_mechanism_in_that_place_can_be_the_baseline(where):
    """By its mechanism alone: it is the only arm with that one."""
    plan = study(where, baseline="SE()")
    found = compared(plan)
    (cell,) = found.cells
    assert cell.baseline is not None
    assert cell.arms[0].name == cell.baseline.name == label("se", where)
    assert {arm.contrast.other for arm in cell.arms[1:]} == {label("se", where)}
    assert [design.family for design in designs(plan)] == [4]
    assert f"{label('se', where)}" in markdown(found)


@PLACED
@pytest.mark.parametrize("asked", ["se", "SE(reduction=16)", None], ids=["name", "spelling", "label"])
def test_two_arms_are_found_by_mechanism_or_label(where, asked):
    (cell,) = compared(study(where)).cells
    told = str(pair(cell, asked or label("se", where), "none"))
    assert f"{label('se', where)} is better than none" in told or f"{label('se', where)} against none" in told


@PLACED
def test_the_controls_in_the_same_place_explain_a_gain(where):
    (cell,) = compared(study(where)).cells
    steps = [step for step in decomposition(cell) if step.arm == label("se", where)]
    assert [step.part for step in steps] == ["scale", "parameters", "input dependence", "training the mechanism"]
    assert steps[0].what == f"{label('constant', where)} - none"


def test_controls_in_another_place_do_not():
    grid = {"attention": ["none", "se", "constant", "static"], "site": ["block", "pre"]}
    (cell,) = compared(study({}, grid=grid)).cells
    own, pre = ([step.what for step in decomposition(cell) if step.arm == name] for name in ("se", "se site=pre"))
    assert own == ["constant - none", "static - constant", "se - static"]
    assert pre == ["constant site=pre - none", "static site=pre - constant site=pre", "se site=pre - static site=pre"]


@pytest.mark.parametrize(
    ("control", "parts", "words"),
    [
        ("constant", ["scale", "parameters and input dependence"], "learned numbers together with looking"),
        ("static", ["scale and parameters", "input dependence"], "a scale together with learned numbers"),
    ],
)
def test_a_part_whose_control_was_not_run_is_told_together_with_the_next(control, parts, words):
    (cell,) = compared(study({}, grid={"attention": ["none", "se", control]})).cells
    steps = decomposition(cell)
    assert [step.part for step in steps] == parts
    assert [step.what for step in steps] == [f"{control} - none", f"se - {control}"]
    assert sum(step.estimate.mean for step in steps) == pytest.approx(cell.arm("se").difference.mean)
    (said,) = because(cell, steps)
    assert words in said


def test_over_another_baseline_than_the_plain_network_no_part_of_a_gain_is_told():
    """Between SE and `constant` lies more than the scale of a gate."""
    grid = {"attention": ["none", "se", "cbam", "constant", "static"]}
    (cell,) = compared(study({}, grid=grid, baseline="se")).cells
    assert decomposition(cell) == []


def test_a_mechanism_in_its_own_place_is_meant_before_others():
    grid = {"attention": ["se", "cbam"], "site": ["block", "pre"]}
    (cell,) = compared(study({}, grid=grid, baseline="se")).cells
    assert [arm.name for arm in cell.arms] == ["se", "cbam", "cbam site=pre", "se site=pre"]


def test_a_baseline_that_is_several_arms_is_refused_with_their_names():
    grid = {"attention": ["se", "cbam"], "site": ["post", "pre"]}
    with pytest.raises(BadStudy, match="'se' is 2 arms; give one of 'se site=post', 'se site=pre'"):
        study({}, grid=grid, baseline="se")
    assert study({}, grid=grid, baseline="se site=pre").baseline == "se site=pre"


def test_a_baseline_that_is_no_arm_is_refused_with_those_that_are():
    with pytest.raises(BadStudy, match="'eca' is not among the arms 'constant', 'none', 'random', 'se', 'static'"):
        study({}, baseline="eca")
    with pytest.raises(BadStudy, match="no attention is called 'sse'; did you mean 'se'"):
        study({}, baseline="sse")


def test_a_cell_without_its_baseline_says_so():
    plan = study({}, grid={"attention": ["none", "se"], "epochs": [3, 4]})
    made.fill(Path("runs"), plan)
    for spec in plan.runs():
        if (spec.attention, spec.epochs) == ("none", 4):
            (Path("runs") / spec.id / "record.json").unlink()
    found = compare(plan, Store("runs"))
    assert [cell.baseline is None for cell in found.cells] == [False, True]
    (warning,) = [text for text in found.warnings if "still rise" not in text]
    assert "epochs 4: of the done runs, 'none' is not among the arms 'se'; without its baseline" in warning
    assert warning.split(";")[0] in markdown(found).replace("\\", "")
    with pytest.raises(StoreProblem, match="'none' is not among the arms 'se'"):
        pair(found.cells[1], "se", "none")


def test_a_run_enters_the_registry_once_for_each_of_its_references(monkeypatch):
    from attnbench.catalogue.registry import Registry
    from attnbench.spec.run import canonical

    asked: list[str] = []
    resolve = Registry.resolve

    def counted(registry: Registry, text: str):
        asked.append(text)
        return resolve(registry, text)

    monkeypatch.setattr(Registry, "resolve", counted)
    spec = RunSpec(dataset="digits", attention="se", backbone="resnet20")
    canonical(spec)
    assert (spec.id, spec.resolved.cards()["attention"]["name"]) == (RunSpec(**spec.fields).id, "se")
    assert sorted(asked) == sorted(["digits", "se", "resnet20"] * 2)  # it, and its copy
