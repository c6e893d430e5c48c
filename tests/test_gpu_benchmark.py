"""`make gpu`: it ends in time, loses nothing that it found, and measures what it says; a CPU tries every part."""

import functools
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from conftest import HANG, ROOT
from PIL import Image

TINY = {"backbone": "resnet20(widths=(4, 8, 8))", "batch": 8, "side": 16, "steps": 2, "device": "cpu"}
NAME = "resnet20(widths=(4, 8, 8)), 16 px, batch 8"
SMALLEST = "speednet(widths=(4, 8, 8))"
NOTHING_INSTALLED = SimpleNamespace(util=SimpleNamespace(find_spec=lambda _name: None))


@pytest.fixture
def part(monkeypatch, tmp_path):
    """A module of benchmarks/, by its name, with a data folder of its own; torch's settings are put back."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("ATTNBENCH_DATA_DIR", str(tmp_path / "data"))
    before = importlib.import_module("gpu_steps").Settings.now()
    yield importlib.import_module
    before.set()


@pytest.fixture
def bench(part):
    """A network that a CPU trains in no time."""
    return part("gpu_steps").Bench(**TINY)


def whats(found, *goals):
    """What the rows of some goals are called."""
    return [row.what for row in found if getattr(row, "goal", "") in goals]


def said(found):
    """What was left out."""
    return [each.what for each in found if type(each).__name__ == "Said"]


def failures(found):
    return [each for each in found if type(each).__name__ == "Failed"]


def test_without_a_device_it_ends_and_says_what_it_left_out(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--out", tmp_path / "out"]
    command += ["--data", tmp_path / "nowhere"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=HANG)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["skipped"] == [
        f"no folder {tmp_path / 'nowhere'}: G4 trains on noise, and G5 is left out",
        "torch sees no CUDA device here: no test of a GPU, and none of G1 to G7",
    ]
    assert all(said in (tmp_path / "out" / "report.md").read_text() for said in found["skipped"])


# The time of the whole command


@pytest.fixture
def called(part, monkeypatch, tmp_path):
    """Call the command on a machine whose clock is ours: (name, seconds) of all that it ran, and its last moment."""
    gpu, now, ran = part("gpu"), [0.0], []

    def call(*flags, tests=1.0):
        def about(_out):
            now[0] += gpu.START
            device = {"available": True, "name": "Card", "torch": "2.11", "cuda": "13"}
            return {"python": "3.12", "cores": 8, "missing": [], "nvidia_smi": [], "device": device}

        def ended(command, _env, log, seconds):
            log.write_text("what it said")
            ran.append((log.stem, seconds))
            now[0] += seconds * (tests if log.stem == "tests" else 1)
            return gpu.Ended(None, seconds)

        monkeypatch.setattr(gpu, "about", about)
        monkeypatch.setattr(gpu, "ended", ended)
        monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0]))
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out"), *flags])
        gpu.main()
        return dict(ran), now[0]

    return call


def test_in_the_default_call_every_part_gets_its_turn_and_all_ends_in_eight_minutes(part, called):
    gpu = part("gpu")
    assert gpu.START + gpu.TESTS + sum(gpu.SECONDS.values()) <= 60 * gpu.parser().parse_args([]).minutes + 0.5
    ran, end = called()  # all of them take all their time
    assert list(ran) == ["tests", *gpu.SECONDS]
    assert ran.pop("tests") == pytest.approx(gpu.TESTS, abs=1)
    assert {name: round(seconds) for name, seconds in ran.items()} == gpu.SECONDS
    assert end + gpu.PATIENCE < 480


def test_what_tests_leave_of_their_time_goes_to_the_parts(part, called):
    ran, end = called(tests=0.5)
    assert all(ran[name] > seconds + 3 for name, seconds in part("gpu").SECONDS.items())
    assert end < 480


def test_a_short_call_takes_the_most_important_parts(called, tmp_path):
    ran, _ = called("--minutes", "2", "--test-minutes", "0")
    assert ran == {"steps": 50, "loops": 36, "study": pytest.approx(24)}
    text = (tmp_path / "out" / "report.md").read_text()
    assert "- not measured: eurosat: no time was left" in text
    assert "- not measured: compiled-resnet50: only with --only compiled-resnet50" in text


def test_both_lists_of_parts_are_one(part):
    figures, gpu = part("gpu_figures"), part("gpu")
    assert list(figures.PARTS) == list(gpu.ALL)


def test_the_documented_seconds_are_those_of_the_parts(part):
    gpu, text = part("gpu"), (ROOT / "docs" / "gpu.md").read_text()
    found = dict(re.findall(r"^\| `([\w-]+)` \| G.* \| (\d+) \|$", text, re.MULTILINE))
    assert {name: int(seconds) for name, seconds in found.items()} == gpu.SECONDS
    assert f"The tests have {gpu.TESTS} seconds." in text
    assert f"({gpu.parser().parse_args([]).minutes} by default)" in text


def test_timms_step_is_measured_where_each_thing_takes_as_long_to_build_as_on_a_card(part, monkeypatch):
    rates, gpu, figures, now = part("gpu_throughput"), part("gpu"), part("gpu_figures"), [0.0]

    def built(*_args, **_fields):
        now[0] += 3.2  # on the H100, 7 things in 22.7 s
        return lambda: now.__setitem__(0, now[0] + 0.2)

    monkeypatch.setattr(rates, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(rates, "clock", lambda _device: now[0])
    for name in ("our_epoch", "_plain", "_timm"):
        monkeypatch.setattr(rates, name, built)
    imports = 10
    left = gpu.SECONDS["steps"] - gpu.PATIENCE - figures.LATE - imports
    found = list(figures.in_turn([(functools.partial(rates.steps, rates.SMALL), 3)], 0.75 * left))
    title = "ResNet-18, 32 px, batch 128"
    assert f"{title}, none: timm's step / ours" in whats(found, "G1")
    assert f"{title}: ours none, deterministic (no time was left)" in said(found)
    assert now[0] < left


def test_a_part_whose_time_is_over_is_ended(part, tmp_path: Path):
    gpu = part("gpu")
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    ended = gpu.ended(command, os.environ, tmp_path / "log", gpu.PATIENCE + 4)
    assert ended.code is None
    assert "KeyboardInterrupt" in (tmp_path / "log").read_text()


STUBBORN = "import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(os.getpid(), flush=True)"


@pytest.mark.parametrize("leader", ["time.sleep(60)", "pass"], ids=["time over", "ended"])
def test_what_a_part_began_ends_with_it_even_where_it_ignores_an_interruption(part, tmp_path, leader):
    gpu = part("gpu")
    code = f"import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r} '; "
    code += "time.sleep(300)'], stdout=subprocess.PIPE, text=True); "
    code += f"print(child.stdout.readline(), flush=True); {leader}"
    gpu.ended([sys.executable, "-c", code], os.environ, tmp_path / "log", gpu.PATIENCE + 4)
    child = int((tmp_path / "log").read_text().split()[0])
    late = time.monotonic() + 30
    while _alive(child):
        if time.monotonic() > late:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the child outlived its part")
        time.sleep(0.05)


def _alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# What is written down


def test_results_of_tests_that_were_cut_off_are_passed_over(part, tmp_path):
    (tmp_path / "tests.xml").write_text('<testsuites><testsuite name="pytest"><testcase na')
    found = {"out": str(tmp_path), "tests": "their time was over"}
    assert part("gpu").failed_tests(found) == ["- tests.xml was cut off: tests.txt says which tests ran"]


def test_a_report_names_each_test_that_failed_was_skipped_or_was_not_reached(part, tmp_path):
    cases = '<testcase name="test_a[se]"><failure message="far off">trace</failure></testcase>'
    cases += '<testcase name="test_a[eca]"/><testcase name="test_b"><skipped message="needs two devices"/></testcase>'
    (tmp_path / "tests.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    (tmp_path / "collected.txt").write_text("test_a[se]\ntest_a[eca]\ntest_b\ntest_c[nl]\ntest_d\n")
    assert part("gpu").failed_tests({"out": str(tmp_path), "tests": "their time was over"}) == [
        "- FAILED test_a[se]: ['far off']",
        "- SKIPPED test_b: ['needs two devices']",
        "- not run, 2 tests, since their time was over: test_c[nl], test_d",
    ]


def test_pytest_keeps_the_names_of_the_tests_that_it_is_to_run(part, tmp_path):
    marks = (
        "import pytest\n\n@pytest.mark.parametrize('x', ['se', 'eca'])\ndef test_it(x): pass\n\ndef test_no(): pass\n"
    )
    (tmp_path / "test_some.py").write_text(marks)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks"), part("gpu").COLLECTED: str(tmp_path / "names")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gpu", "-p", "no:cacheprovider", "-k", "test_it", "."]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=HANG)
    assert (tmp_path / "names").read_text().split() == ["test_it[se]", "test_it[eca]"]


def test_a_report_has_figures_failures_and_what_was_left_out(part, tmp_path):
    gpu, figures = part("gpu"), part("gpu_figures")
    lines = [
        figures.as_json("steps", each) for each in (figures.once("G1", "images/s", 5.0), figures.Failed("x", "Bad: y"))
    ]
    device = {"name": "Card", "torch": "2.11", "cuda": "13"}
    about = {"date": "today", "python": "3.12", "cores": 8, "missing": [], "nvidia_smi": [], "device": device}
    text = gpu.report({**about, "tests": "", "seconds": 1.0, "skipped": ["study: no time was left"], "figures": lines})
    assert "| G1 | images/s |  | 5.000 | 5.000 to 5.000 |  |" in text
    assert "- FAILED steps: x: Bad: y" in text
    assert "- not measured: study: no time was left" in text


def test_a_part_writes_each_figure_when_it_is_found_and_what_ended_it(part, tmp_path, monkeypatch):
    figures, seconds = part("gpu_figures"), []

    def broken(left):
        seconds.append(left)
        yield figures.once("G1", "images/s", 5.0, 4.0)
        raise RuntimeError("no kernel for this")

    monkeypatch.setitem(figures.PARTS, "steps", broken)
    monkeypatch.setattr(sys, "argv", ["gpu_figures.py", "steps", f"{time.time() + 100}", str(tmp_path / "figures")])
    figures.main()
    row, failed, *_ = map(json.loads, (tmp_path / "figures").read_text().splitlines())
    assert (row["kind"], row["goal"], row["value"], row["outcome"]) == ("row", "G1", 5.0, "reached")
    assert (failed["kind"], failed["what"]) == ("failed", "steps")
    assert "no kernel for this" in failed["trace"]
    assert 90 < seconds[0] < 100


# The parts, on the CPU


def test_steps_of_ours_of_a_plain_loop_and_of_timm_are_compared(part, bench, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setattr(part("gpu_throughput"), "BUILDING", HANG)  # all is built, and taken in three rounds
    found = list(part("gpu_throughput").steps(bench, 1))
    assert failures(found) == []
    assert said(found) == []
    ratios = [row for row in found if row.wanted]
    assert {(row.goal, row.wanted, row.what) for row in ratios} == {
        *(
            ("G1", 1.0, f"{NAME}, {a}: {w} / ours")
            for a in ("none", "se", "cbam")
            for w in ("plain loop", "timm's step")
        ),
        ("G3", 1.05, f"{NAME}, se / none"),
        ("G3", 1.05, f"{NAME}, eca / none"),
        ("G3", 1.15, f"{NAME}, cbam / none"),
    }
    unwanted = {f"{NAME}: ours none, {how}, images/s" for how in ("not recorded", "deterministic")}
    assert unwanted <= set(whats(found, "G1"))


def test_without_timm_its_steps_are_told_as_left_out(part, bench, monkeypatch):
    rates = part("gpu_throughput")
    monkeypatch.setattr(rates, "importlib", NOTHING_INSTALLED)
    found = list(rates.steps(bench, 30, attentions=()))
    assert said(found) == [f"{NAME}: timm's step (timm is not installed)"]
    assert whats(found, "G1") == [
        f"{NAME}: ours none, images/s",
        f"{NAME}: plain none, images/s",
        f"{NAME}, none: plain loop / ours",
    ]


def test_timms_networks_are_those_of_the_others_with_its_own_modules(part):
    pytest.importorskip("timm")
    rates = part("gpu_throughput")
    net, ours = rates.timm_net(rates.SMALL, "se"), part("gpu_steps").textbook_net(rates.SMALL, "none")
    blocks = [
        type(block.se).__name__ for name in ("layer1", "layer2", "layer3", "layer4") for block in getattr(net, name)
    ]
    assert blocks == ["SEModule"] * 8
    size = {name: p.shape for name, p in net.named_parameters() if ".se." not in name}
    assert size == {name: p.shape for name, p in ours.named_parameters()}
    with torch.inference_mode():
        assert net.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 4, 4)
    large = rates.timm_net(rates.NET50, "cbam")
    assert {type(block.se).__name__ for block in large.layer3} == {"CbamModule"}


def test_each_part_measures_its_networks(part, monkeypatch):
    figures, rates, seen = part("gpu_figures"), part("gpu_throughput"), []

    def measured(things, seconds, bench):
        seen.append((bench.title, len(things), round(seconds)))
        return iter(())

    monkeypatch.setattr(rates, "measured", measured)
    monkeypatch.setattr(rates, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda _name: True)))
    for name in ("steps", "loops", "compiled", "steps-resnet50", "loops-512", "compiled-resnet20", "compiled-resnet50"):
        assert failures(figures.PARTS[name](20.0)) == []
    small, large = "ResNet-18, 32 px, batch 128", "ResNet-18, 32 px, batch 512"
    little, imagenet = "resnet20, 32 px, batch 128", "ResNet-50, 224 px, batch 128"
    assert seen == [
        *((small, 12, 15), (large, 3, 20)),
        *((small, 5, 12), (little, 5, 20)),
        (small, 4, 20),
        (imagenet, 12, 20),
        (large, 5, 20),
        *((little, 4, 20), (imagenet, 4, 20)),
    ]


def test_what_fails_is_told_with_its_traceback_and_the_rest_is_measured(part, bench):
    rates = part("gpu_throughput")

    def broken() -> None:
        raise RuntimeError("no kernel for this")

    failed, paired = rates.measured({"bad": lambda: broken, "good": lambda: lambda: None}, 1.0, bench)
    assert failed.what == f"{NAME}: bad"
    assert "no kernel for this" in failed.trace
    assert list(paired.seconds) == ["good"]


def test_several_measurements_share_the_time_that_is_left(part):
    given = []
    measures = [(lambda seconds: iter([given.append(seconds)]), share) for share in (3, 1, 1)]
    assert len(list(part("gpu_throughput").in_turn(measures, 100.0))) == 3
    assert given == pytest.approx([60, 50, 100], abs=1)  # the first used none of its time, nor the second


def test_our_loop_is_compared_with_ready_and_bare_steps(part, bench):
    found = list(part("gpu_throughput").loop(bench, 30))
    assert failures(found) == []
    assert [(row.what, row.wanted) for row in found if "/s" not in row.what] == [
        (f"{NAME}: our crop+flip / ready steps", 1.03),
        (f"{NAME}: our loop / bare steps", 1.03),
        (f"{NAME}: our crop+flip / bare steps", 1.03),
        (f"{NAME}: our ready / bare steps", None),
        (f"{NAME}: our sent ahead / ready steps", None),
    ]
    names = ("ready", "crop+flip", "bare", "loop", "sent ahead")
    assert whats(found, "G2")[5:] == [f"{NAME}: {name}, images/s" for name in names]


@pytest.fixture
def eager(monkeypatch):
    """torch.compile traces as it does on a card, and generates no code."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))


def test_compiled_steps_are_compared_and_what_compiling_costs_is_told(part, eager):
    pytest.importorskip("timm")
    bench = part("gpu_steps").Bench(**{**TINY, "backbone": SMALLEST})
    found = list(part("gpu_throughput").compiled(bench, 200))
    assert failures(found) == []
    assert said(found) == []
    assert whats(found, "G7") == [
        f"{bench.title}: seconds to compile",
        f"{bench.title}: seconds saved per 1,000 steps",
        f"{bench.title}: as written / compiled",
        f"{bench.title}: steps until compiling has paid",
    ]
    things = ("ours none", "compiled ours none", "compiled timm none", "compiled plain none")
    assert whats(found, "G1") == [
        *(f"{bench.title}: {thing}, images/s" for thing in things),
        f"{bench.title}, compiled none: plain loop / ours",
        f"{bench.title}, compiled none: timm's step / ours",
        *(f"{bench.title}: compiled ours {attention}, images/s" for attention in ("se", "eca", "cbam")),
    ]
    assert whats(found, "G3") == [f"{bench.title}, compiled {attention} / none" for attention in ("se", "eca", "cbam")]


def test_a_network_that_cannot_be_compiled_is_told_and_costs_nothing_else(part, bench, monkeypatch):
    def broken(_model):
        raise TypeError("ResNet does not support len()")

    monkeypatch.setattr(torch, "compile", broken)
    found = list(part("gpu_throughput").compiled(bench, 60))
    assert f"{NAME}: compiled ours none" in [each.what for each in failures(found)]
    assert f"{NAME}: compiled se (none failed)" in said(found)
    assert whats(found, "G1") == [f"{NAME}: ours none, images/s"]


@pytest.mark.slow
def test_runs_of_a_study_are_timed_side_by_side(part):
    found = list(part("gpu_figures").side_by_side(HANG, images=40, epochs=1, device="cpu", plans=((2, 2), (1, 1))))
    assert failures(found) == []
    figures = ["runs/hour with start and preparation", "seconds until the first run begins"]
    figures += [f"seconds to {lap}" for lap in ("prepare", "train", "test")]
    assert whats(found, "G6") == [
        f"ResNet-20, 40 images, 1 epochs, {jobs} side by side: {figure}" for jobs in (2, 1) for figure in figures
    ]
    assert [row.rounds for row in found] == [1, 1, 2, 2, 2, 1, 1, 1, 1, 1]


def test_studies_for_which_no_time_is_left_are_told(part):
    found = list(part("gpu_figures").side_by_side(-1.0, images=20, device="cpu", plans=((2, 2),)))
    assert [each.what for each in found] == ["ResNet-20, 20 images, 4 epochs, 2 side by side (no time was left)"]


def test_a_study_shares_a_card_but_no_cpu(part, monkeypatch):
    figures, commands = part("gpu_figures"), []

    def refused(command, **_options):
        commands.append(command)
        raise subprocess.CalledProcessError(2, command, b"", b"no such flag")

    monkeypatch.setattr(figures.subprocess, "run", refused)
    for device in ("cpu", "cuda"):
        (failed,) = figures.side_by_side(100, images=20, device=device, plans=((4, 4),))
        assert "no such flag" in failed.trace
    assert ["--per-device=4" in command for command in commands] == [False, True]


def pictures(folder, classes, count):
    """Small pictures, in a folder for each class."""
    draws = np.random.default_rng(count)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(draws.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture
def cifar(part, tmp_path, monkeypatch):
    """A few images in the place of CIFAR-10, networks that a CPU trains in no time, and the module that measures."""
    from attnbench.data.cifar import CIFAR10

    figures = part("gpu_figures")
    for split, count in (("train", 4), ("test", 2)):
        pictures(tmp_path / "data" / "CIFAR10" / split, CIFAR10.names, count)
    monkeypatch.setattr(figures, "TO_94", ((SMALLEST, 2), (SMALLEST, 1)))
    monkeypatch.setattr(figures, "FAST", (part("gpu_steps").Bench(**{**TINY, "backbone": SMALLEST}),))
    return figures


@pytest.fixture
def rival(tmp_path, monkeypatch):
    """An airbench that reads the images that it is given and trains nothing."""
    (tmp_path / "rival").mkdir()
    (tmp_path / "rival" / "airbench.py").write_text(
        "import torch\n"
        "said = []\n"
        "class CifarLoader:\n"
        "    def __init__(self, path, train):\n"
        '        self.whole = torch.load(f\'{path}/{"train" if train else "test"}.pt\')\n'
        "        said.append((train, tuple(self.whole['images'].shape), str(self.whole['images'].dtype)))\n"
        "def warmup94():\n"
        "    said.append('warmup')\n"
        "def train94(verbose=True):\n"
        "    assert not verbose, 'it would test after every epoch'\n"
        "    return CifarLoader('cifar10', True)\n"
        "def evaluate(model, loader, tta_level):\n"
        "    assert sorted(set(loader.whole['labels'].tolist())) == list(range(10))\n"
        "    return 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "rival")
    monkeypatch.delitem(sys.modules, "airbench", raising=False)
    yield lambda: sys.modules["airbench"].said
    sys.modules.pop("airbench", None)


RUNS = [
    f"CIFAR10, {SMALLEST}, {epochs} epochs: {what}"
    for epochs in (2, 1)
    for what in ("accuracy in percent", "seconds of training", "seconds of the whole run")
]
THEIRS = ["airbench94: seconds of training", "airbench94: accuracy in percent"]
NOISE = [f"{SMALLEST}, 16 px, batch 8: {name}, images/s" for name in ("ready", "crop+flip")]


def test_seconds_to_94_are_those_of_the_fastest_run_that_came_there_beside_airbench(cifar, rival, monkeypatch):
    race = cifar.race
    monkeypatch.setattr(cifar, "race", lambda goal, specs, _wanted, *rest: race(goal, specs, 0.0, *rest))
    found = list(cifar.to_94(100, "cpu"))
    assert failures(found) == []
    ratio = "CIFAR10: ours to 94 % / airbench94, seconds"
    assert whats(found, "G4") == [*THEIRS, *RUNS, "CIFAR10: seconds to 0 %", ratio, *NOISE]
    values, (last,) = {row.what: row.value for row in found}, [row for row in found if row.what == ratio]
    best = min(values[what] for what in RUNS if what.endswith("seconds of training"))
    assert values["CIFAR10: seconds to 0 %"] == best
    assert (last.wanted, last.more, last.value) == (1.5, False, best / values[THEIRS[0]])
    assert values[THEIRS[1]] == 50
    assert rival() == ["warmup", (True, (40, 32, 32, 3), "torch.uint8"), (False, (20, 32, 32, 3), "torch.uint8")]


def test_where_no_run_came_to_94_and_airbench_fails_both_are_told_and_there_is_no_ratio(cifar, rival, tmp_path):
    (tmp_path / "rival" / "airbench.py").write_text("def warmup94(): raise RuntimeError('no compiler')\n")
    found = list(cifar.to_94(100, "cpu"))
    assert [(each.what, "no compiler" in each.trace) for each in failures(found)] == [("airbench", True)]
    assert said(found) == ["G4: CIFAR10: seconds to 94 % (no run of ours reached it)"]
    assert whats(found, "G4") == [*RUNS, *NOISE]


def test_without_images_and_airbench_speednet_trains_on_noise(cifar, monkeypatch, tmp_path):
    monkeypatch.setenv("ATTNBENCH_DATA_DIR", str(tmp_path / "empty"))
    found = list(cifar.to_94(20, "cpu"))
    assert said(found) == ["G4: seconds to 94 % on CIFAR-10 (its images are not in DATA)"]
    assert whats(found, "G4") == NOISE
    monkeypatch.setattr(cifar, "importlib", NOTHING_INSTALLED)
    assert said(cifar.airbench("cpu")) == ["G4: airbench (not installed)"]


def test_runs_for_which_no_time_is_left_are_told(cifar):
    spec = cifar.from_study("fast-cifar10.yaml", dataset="CIFAR10", backbone=SMALLEST, epochs=7)
    found = list(cifar.race("G4", [spec], 94.0, -1.0, "cpu"))
    assert said(found) == [
        f"G4: CIFAR10, {SMALLEST}, 7 epochs (no time was left)",
        "G4: CIFAR10: seconds to 94 % (no run of ours reached it)",
    ]
    assert len(found) == 2


def test_a_run_that_fails_is_told_and_the_next_is_trained(cifar):
    fields = {"dataset": "CIFAR10", "epochs": 1}
    bad = cifar.from_study("fast-cifar10.yaml", **fields, backbone=SMALLEST, lr=1e30)
    good = cifar.from_study("fast-cifar10.yaml", **fields, backbone=SMALLEST, lr=0.1)
    found = list(cifar.race("G4", [bad, good], 0.0, 100, "cpu"))
    assert [each.what for each in failures(found)] == [
        f"CIFAR10, {SMALLEST}, {epochs} epochs" for epochs in (3, 1)
    ]  # the one that is not counted, too
    assert "CIFAR10: seconds to 0 %" in whats(found, "G4")


def test_runs_on_eurosat_heed_their_time_and_say_whether_one_came_there(part, tmp_path, monkeypatch):
    from attnbench.data.eurosat import EUROSAT

    figures = part("gpu_figures")
    assert said(figures.eurosat(10, "cpu")) == ["G5: seconds to 97.6 % on EuroSAT (its images are not in DATA)"]
    pictures(tmp_path / "data" / "EuroSAT", EUROSAT.names, 5)
    monkeypatch.setattr(figures, "TO_976", ((SMALLEST, 1), (SMALLEST, 10**6)))
    found = list(figures.eurosat(100, "cpu"))
    assert failures(found) == []
    names = ("accuracy in percent", "seconds of training", "seconds of the whole run")
    assert whats(found, "G5") == [f"EuroSAT, {SMALLEST}, 1 epochs: {name}" for name in names]
    assert said(found) == [
        f"G5: EuroSAT, {SMALLEST}, 1000000 epochs (no time was left)",
        "G5: EuroSAT: seconds to 97.6 % (no run of ours reached it)",
    ]
