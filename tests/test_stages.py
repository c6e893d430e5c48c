"""`study --until-decided`: from look to look, without the arms that are decided, and the same when interrupted."""

import dataclasses
import functools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import handmade
import pytest
from conftest import HANG, TINY, wait_for
from test_looks import ARMS, answers, study

from attnbench import Runtime, Store, Study
from attnbench.analysis.comparison import compare
from attnbench.execution import stages
from attnbench.execution.stages import Stage, until_decided
from attnbench.execution.sweep import Failure, Sweep
from attnbench.report.looks import look_lines
from attnbench.store.studies import StudyJournal

Outcome = subprocess.CompletedProcess[str]


class Trained:
    """Stands for the processes that train: writes a record of each run that is pending, in order."""

    def __init__(self, failing: Sequence[tuple[str, int]] = (), dying: Sequence[tuple[str, int]] = ()) -> None:
        self.calls: list[list[tuple[str, int]]] = []
        self.failing, self.dying = failing, dying

    def __call__(self, sweep: Sweep, _how: object = None) -> list[Failure]:
        left = [spec for spec in sweep.specs if not sweep.store.done(spec.id)]
        self.calls.append([(spec.attention, spec.seed) for spec in left])
        failures = []
        for spec in left:
            what = (spec.attention, spec.seed)
            made = handmade.record(*what, float(ARMS[spec.attention][spec.seed]), input={"classes": 10})
            if what in self.failing:
                made = dataclasses.replace(made, status="failed", test={}, error="loss is nan")
            if what in self.failing or what in self.dying:
                failures.append(Failure(spec, "it died"))
            if what not in self.dying:
                handmade.stored([made])
        return failures


def trained(
    monkeypatch: pytest.MonkeyPatch, plan: Study, **how: Sequence[tuple[str, int]]
) -> tuple[Trained, list[Stage]]:
    fake = Trained(**how)
    monkeypatch.setattr(stages, "execute", fake)
    return fake, list(until_decided(plan, Sweep(plan.runs(), Runtime(store="runs", tracker="none"))))


def had() -> dict[str, int]:
    """How many results each arm has."""
    found = [record.spec["attention"] for record in Store("runs").records()]
    return {arm: found.count(arm) for arm in ARMS}


def lines(found: Sequence[Stage]) -> list[str]:
    befores = [frozenset(), *(stage.decided for stage in found)]
    return [
        line
        for stage, before in zip(found, befores, strict=False)
        for line in look_lines(stage.comparison, stage.seeds, stage.decided, before, stage.last)
    ]


def test_each_look_trains_what_is_open_and_the_baseline_and_nothing_beyond(monkeypatch):
    fake, found = trained(monkeypatch, study())
    arms = [[*ARMS], ["none", "cbam", "eca"], ["none", "cbam", "eca"]]
    seeds = [range(8), range(8, 10), range(10, 12)]
    assert fake.calls == [[(arm, seed) for seed in own for arm in at] for at, own in zip(arms, seeds, strict=True)]
    assert [(stage.seeds, len(stage.decided), stage.last) for stage in found] == [
        (8, 1, False),
        (10, 1, False),
        (12, 2, True),
    ]
    assert had() == {"none": 12, "se": 8, "cbam": 12, "eca": 12}
    assert found[-1].comparison.missing == 0


def test_nothing_is_trained_when_all_is_decided(monkeypatch):
    plan = study(grid={"attention": ["none", "se"]})
    fake, found = trained(monkeypatch, plan)
    assert (len(fake.calls), found[-1].last, had()["none"], found[-1].comparison.missing) == (1, True, 8, 0)


def test_any_stops_an_arm_at_the_seed_that_decides_it(monkeypatch):
    _, found = trained(monkeypatch, study(looks="any", grid={"attention": ["none", "se"]}))
    last = found[-1].seeds
    assert [stage.seeds for stage in found] == [*range(2, last + 1)]
    assert last < 12
    assert had() == {"none": last, "se": last, "cbam": 0, "eca": 0}


def test_a_line_says_what_each_look_decided_and_what_goes_on(monkeypatch):
    _, found = trained(monkeypatch, study())
    said = lines(found)
    assert [line for line in said if not line.startswith(" ")] == [
        "look at 8 seeds an arm: se is decided; cbam and eca go on",
        "look at 10 seeds an arm: nothing more is decided; cbam and eca go on",
        "look at 12 seeds an arm: cbam is decided; eca stays open",
    ]
    sentences = [line.split(": ")[1].split(" on these ")[0] for line in said if line.startswith(" ")]
    assert sentences == ["se is better than none", "cbam is better than none", "eca against none is undecided"]


def test_one_arm_goes_on_and_several_go_on(monkeypatch):
    _, found = trained(monkeypatch, study(grid={"attention": ["none", "se", "eca"]}))
    assert lines(found)[0] == "look at 8 seeds an arm: se is decided; eca goes on"


@pytest.mark.parametrize("stopped", range(1, 44, 7))
def test_stopped_after_any_run_and_started_again_it_comes_to_the_same(monkeypatch, stopped):
    _, whole = trained(monkeypatch, study())
    kept = [record for record in Store("runs").records()]
    order = {spec.id: place for place, spec in enumerate(study().runs())}
    for record in sorted(kept, key=lambda record: order[record.id])[stopped:]:
        (Path("runs") / record.id / "record.json").unlink()
    fake, again = trained(monkeypatch, study())
    assert lines(again) == lines(whole)
    assert sum(map(len, fake.calls)) == len(kept) - stopped


def test_the_report_of_such_a_study_is_that_of_the_same_study_trained_to_its_end(monkeypatch):
    _, found = trained(monkeypatch, study())
    Trained()(Sweep(study().runs(), Runtime(store="runs", tracker="none")))
    whole = compare(study(), Store("runs"))
    assert had() == dict.fromkeys(ARMS, 12)
    assert answers(whole) == answers(found[-1].comparison)


def test_a_failed_run_is_a_result_and_is_not_tried_again(monkeypatch):
    fake, found = trained(monkeypatch, study(), failing=[("cbam", 0)])
    assert sum(call.count(("cbam", 0)) for call in fake.calls) == 1
    assert found[-1].last
    assert all(stage.reached for stage in found)
    assert [len(stage.failures) for stage in found][:2] == [1, 0]


def test_a_run_that_could_not_even_fail_ends_it_before_the_look(monkeypatch):
    _, found = trained(monkeypatch, study(), dying=[("cbam", 8)])
    assert [(stage.seeds, stage.reached, stage.last) for stage in found] == [(8, True, False), (10, False, True)]
    _, again = trained(monkeypatch, study())
    assert again[-1].seeds == 12


# The command


def write(**changed: object) -> Path:
    fields = {"name": "plan", "base": TINY, "grid": {"attention": ["none", "se"]}, "looks": [2, 3], "margin": 40.0}
    Path("plan.json").write_text(json.dumps({**fields, **changed}))
    return Path("plan.json")


def test_without_looks_the_flag_is_one_clear_line(attnbench: Callable[..., Outcome]):
    found = attnbench("study", write(looks=None, seeds=3), "--until-decided")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == (
        "attnbench: plan.json: --until-decided needs the key 'looks', such as looks: [5, 8, 12, 20], or any\n"
    )
    assert not Path("runs").exists()


@pytest.mark.slow
def test_killed_at_every_stage_the_same_command_comes_to_the_same_verdicts(data_dir: Path):
    file = write()
    command = [sys.executable, "-m", "attnbench", "study", str(file), "--until-decided", "--tracker=none"]
    command += [f"--data-dir={data_dir}", "--store"]
    whole = subprocess.run([*command, "whole"], capture_output=True, text=True, timeout=HANG)
    assert whole.returncode == 0, whole.stderr
    done = len(list(Path("whole").glob("*/record.json")))
    for count in range(0, done, 2):
        process = subprocess.Popen([*command, "runs"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(functools.partial(begun, count))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    again = subprocess.run([*command, "runs"], capture_output=True, text=True, timeout=HANG)
    assert again.returncode == 0, again.stderr
    assert decided(again.stdout) == decided(whole.stdout) != []
    assert results("runs") == results("whole")
    plan = Study.load(file)
    events = [[look.seen for look in StudyJournal(Store(store), "plan").looks()] for store in ("whole", "runs")]
    assert events[0] == events[1]
    assert compare(plan, Store("runs")).decided == compare(plan, Store("whole")).decided


def begun(count: int) -> bool:
    """Whether the plan is kept, and so many runs are done."""
    return Path("runs/studies/plan.jsonl").exists() and len(results("runs")) >= count


def results(store: str) -> dict[str, float]:
    return {record.id: record.accuracy for record in Store(store).records()}


def decided(stdout: str) -> list[str]:
    """What the looks say; the end, what to do next, names the store."""
    text = stdout.partition("\nnext:")[0].splitlines()
    first = next((place for place, line in enumerate(text) if line.startswith("look at")), len(text))
    return [line for line in text[first:] if "seed " not in line]


@pytest.mark.slow
def test_report_and_compare_keep_what_was_seen_and_say_what_was_changed(attnbench: Callable[..., Outcome]):
    plan = study(looks=None, seeds=5)
    Trained()(Sweep(plan.runs(), Runtime(store="runs", tracker="none")))
    store, journal = Store("runs"), StudyJournal(Store("runs"), "plan")
    fields = {"name": "plan", "base": plan.base, "grid": plan.grid, "seeds": 5}
    write(**fields, looks=None, margin=0.3)
    journal.keep_plan(Study.load("plan.json"))
    store.log(plan.runs()[0].id, "start")
    for verb in (["report", "plan.json"], ["compare", "se", "none", "--study", "plan.json"], ["report", "plan.json"]):
        found = attnbench(*verb)
        assert found.returncode == 0, found.stderr
        assert "after the first run" not in found.stdout
        assert len(journal.looks()) == 1
    write(**fields, looks=None, margin=0.5)
    found = attnbench("report", "plan.json")
    said = "Of this study's plan, margin changed from 0.3 to 0.5 after the first run."
    assert said in found.stdout
    assert said in Path("reports/plan/index.html").read_text().replace("&#39;", "'")
    assert attnbench("report", "runs").returncode == 0
    assert len(StudyJournal(store).looks()) == 1
