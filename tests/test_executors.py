"""Executors: what is asked of them, how GPUs are shared out, what a machine must have in common, how runs come back."""

import contextlib
import dataclasses
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import made
import pytest
from conftest import HANG, TINY, wait_for
from rich.console import Console

from attnbench.catalogue.digest import carried
from attnbench.console import shortened
from attnbench.errors import AttnbenchError, BadSpec, Diverged, StoreProblem
from attnbench.execution import agreement, local, slurm, sweep
from attnbench.execution import ray as on_ray
from attnbench.execution.agreement import expectation, insist, kind
from attnbench.execution.children import Child, Ended, Told, ask
from attnbench.execution.display import Display, display
from attnbench.execution.executors import Execution, Task, cores
from attnbench.execution.sweep import Sweep, execute
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.carried import packed, received
from attnbench.store.runs import Store

SPECS = [RunSpec(**TINY, seed=seed) for seed in range(4)]
QUIET = Runtime(store="runs", tracker="none")

# --- what is asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"jobs": 0}, "jobs: 0 must be at least 1"),
        ({"retries": -1}, "retries: -1 must be at least 0"),
        ({"partition": "gpu"}, "partition: executor 'local' has no use for it; 'slurm' have"),
        ({"executor": "ray", "jobs": 2}, "jobs: executor 'ray' has no use for it; 'local' and 'slurm' have"),
        ({"executor": "slurm", "gpus_per_run": 0.5}, "gpus_per_run: 0.5: slurm gives whole ones only"),
        ({"executor": "ray", "cpus_per_run": 0.0}, "cpus_per_run: 0 must be above 0"),
    ],
)
def test_an_option_that_an_executor_has_no_use_for_is_refused(asked, complaint):
    with pytest.raises(BadSpec) as refused:
        Execution(**asked)
    assert str(refused.value) == complaint


@pytest.mark.parametrize(("module", "library"), [(on_ray, "ray"), (slurm, "submitit")])
def test_a_missing_library_is_one_line_with_the_command_that_installs_it(module, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    extra = module.__name__.rsplit(".", 1)[1]
    with pytest.raises(AttnbenchError, match=rf"pip install 'attnbench\[{extra}\]'") as missing:
        module.workers(Execution(executor=extra), QUIET).__enter__()
    assert "\n" not in str(missing.value)


# --- retries and progress, whoever trains -------------------------------------------------------------------------


class Played:
    """Stands for an executor: each run ends as is told, try by try, and one that ends well has a record."""

    def __init__(self, codes: dict[int, list[int]]) -> None:
        self.codes, self.started = {seed: list(each) for seed, each in codes.items()}, list[int]()
        self.waiting: list[Task] = []

    @contextlib.contextmanager
    def opened(self, *_: object) -> Iterator["Played"]:
        yield self

    def start(self, tasks: Sequence[Task]) -> None:
        self.started += [task.asked["spec"]["seed"] for task in tasks]
        self.waiting += tasks

    def ended(self, _seconds: float) -> Iterator[tuple[str, Ended]]:
        task = self.waiting.pop(0)
        spec = RunSpec.of(task.asked["spec"])
        code = self.codes[spec.seed].pop(0)
        if code == 0:
            made.run(Path("runs"), spec, 80)
        yield spec.id, Ended(code, {"message": f"ended with {code}"} if code else {}, "", "node7")

    def running(self) -> dict[str, int]:
        return {task.run: 1 for task in self.waiting}

    def interrupt(self) -> None:
        raise AssertionError("nobody interrupts")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Execute the four runs with a stand-in for whatever trains them."""

    def call(codes: dict[int, list[int]], **how: Any) -> tuple[list[sweep.Failure], list[int]]:
        stand_in = Played(codes)
        monkeypatch.setattr(sweep, "_workers", stand_in.opened)
        images = {kind(fields): "the same" for fields in sweep._sendable(SPECS)}
        monkeypatch.setattr(sweep, "ask", lambda *_: {"images": images, "devices": []})
        return execute(Sweep(SPECS, QUIET), Execution(**how)), stand_in.started

    return call


def test_a_run_that_died_is_tried_again_as_often_as_asked_and_the_others_are_not(played):
    failures, started = played({0: [0], 1: [-9, 0], 2: [1, 1, 1], 3: [0]}, retries=2)
    assert sorted(started) == [0, 1, 1, 2, 2, 2, 3]
    assert [(failure.spec.seed, failure.reason) for failure in failures] == [(2, "on node7: ended with 1")]


def test_a_record_of_other_images_is_no_result_of_a_run_that_died(played):
    made.run(Path("runs"), SPECS[0], 70)  # of other images than those of digits
    failures, started = played({0: [-9, -9], 1: [0], 2: [0], 3: [0]}, retries=1)
    assert ([each.spec.seed for each in failures], started) == ([0], [0, 1, 2, 3, 0])


def test_a_run_that_another_process_finished_meanwhile_is_done(played):
    made.run(Path("runs"), SPECS[0], 80)
    failures, _ = played({0: [0], 1: [0], 2: [0], 3: [0]})
    assert not failures


def test_a_cluster_is_told_how_many_cores_all_threads_are():
    with pytest.raises(BadSpec, match="threads: 0 is no number of cores that slurm could give; give --cpus-per-run"):
        cores(Execution(executor="slurm"), Runtime(threads=0))
    assert cores(Execution(executor="slurm", cpus_per_run=4), Runtime(threads=0)) == 4
    assert cores(Execution(executor="ray"), Runtime(threads=2)) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is left to itself, as it should be
def test_all_jobs_are_cancelled_by_one_command_that_no_second_ctrl_c_reaches(monkeypatch):
    late = "import sys, time\ntime.sleep(2)\nopen('told', 'w').write(str(sys.argv[1:]))\n"
    Path("scancel").write_text(f"#!{sys.executable}\n{late}")
    Path("scancel").chmod(0o755)
    monkeypatch.setenv("PATH", ".", prepend=":")
    workers = slurm.SlurmWorkers(None, Store("runs"))
    workers._jobs = {"one": SimpleNamespace(job_id="7_0"), "two": SimpleNamespace(job_id="7_1")}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have muted it
    threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(lambda: Path("told").exists() and Path("told").read_text())
    assert Path("told").read_text() == "['7_0', '7_1']"


def test_a_process_that_cannot_be_started_is_told_in_a_line(monkeypatch):
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("attnbench.execution.children.tempfile.TemporaryDirectory", full)
        with pytest.raises(AttnbenchError, match=r"no process to prepare could be started: .*No space left") as told:
            ask("prepare", {"specs": []}, QUIET, Told())
    assert (told.value.exit_code, "\n" in str(told.value)) == (2, False)


def test_a_process_whose_step_never_ends_does_not_outlive_its_parent():
    code = (
        "import signal, threading, time\nfrom attnbench.execution import worker\nworker.GRACE_SECONDS = 0.1\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\nparents = iter([7, 7])\n"
        "worker.os.getppid = lambda: next(parents, 1)\n"
        "threading.Thread(target=worker._end_with_parent, daemon=True).start()\ntime.sleep(1000)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    child.stdin.close()
    assert child.wait(HANG) == 130


def test_a_run_whose_loss_was_not_finite_is_not_tried_again(played):
    failures, started = played({0: [Diverged.child_exit_code], 1: [0], 2: [0], 3: [0]}, retries=5)
    assert (len(started), len(failures)) == (4, 1)


def test_whatever_ends_a_study_the_runs_in_the_queue_are_not_waited_for(played, monkeypatch):
    interrupted = []
    monkeypatch.setattr(Played, "interrupt", lambda self: interrupted.append(len(self.waiting)))
    monkeypatch.setattr(Played, "ended", lambda *_: pytest.fail("planted"))
    with pytest.raises(pytest.fail.Exception):
        played({0: [0], 1: [0], 2: [0], 3: [0]})
    assert interrupted == [4]


def test_progress_is_said_with_every_run_that_ends(played, capsys):
    played({0: [0], 1: [1], 2: [0], 3: [0]})
    lines = capsys.readouterr().out.splitlines()
    assert [line[: line.index("  digits")] for line in lines] == [spec.id for spec in SPECS]
    assert lines[1].endswith("FAILED: on node7: ended with 1  (1 of 4 done, 2 running, 1 failed)") or "left" in lines[1]
    assert lines[3].endswith("(3 of 4 done, 0 running, 1 failed)")


def test_the_time_that_is_left_goes_by_the_epochs_that_were_done_here(monkeypatch):
    with display(SPECS, str) as shown:
        assert shown.seconds_left() is None
        monkeypatch.setattr(time, "monotonic", lambda: shown.began + 30)
        shown.show({SPECS[0].id: 1})  # taken up: this epoch is older than the display
        shown.finished(SPECS[0].id, None, None)
        shown.show({SPECS[1].id: 0})
        assert shown.seconds_left() == pytest.approx(30 * 6 / 1)  # one epoch in 30 s, six are left
        assert shown.counts() == "1 of 4 done, 1 running, about 3 min left"
    assert isinstance(shown, Display)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_long_names_make_way_for_the_bar_and_the_times(width, monkeypatch):
    screen, drawn = io.StringIO(), io.StringIO()
    real = Console(file=screen, force_terminal=True, width=width)
    monkeypatch.setattr("attnbench.execution.display.Console", lambda: real)
    with display(SPECS, lambda spec: f"digits resnet20 cbam(reduction={spec.seed},kernel=7) lr 0.01 seed 3") as shown:
        shown.show({SPECS[0].id: 0, SPECS[1].id: 1})
        monkeypatch.setattr(time, "monotonic", lambda: shown.began + 30)
        shown.show({SPECS[0].id: 1, SPECS[1].id: 1})
        Console(file=drawn, width=width).print(shown.bars.get_renderable())
    lines = drawn.getvalue().splitlines()
    assert len(lines) == 3
    assert all("30 s gone" in line for line in lines)
    assert "30 s gone, 30 s left" in lines[1]
    assert "━━━━" in lines[1]
    assert "digits resnet20" not in drawn.getvalue(), "what all names begin with tells nothing apart"
    assert ("…" in lines[1]) == (width < 120)


def test_a_study_that_is_stopped_says_where(monkeypatch):
    with display(SPECS, lambda spec: f"seed {spec.seed}") as shown:
        shown.finished(SPECS[0].id, None, None)
        shown.show({SPECS[1].id: 1, SPECS[2].id: 0})
        assert shown.stopped() == "stopped with 1 of 4 done, seed 1 in epoch 2 and seed 2 in epoch 1"


@pytest.mark.parametrize(
    ("text", "width", "said"),
    [("short", 9, "short"), ("a long name seed 3", 11, "a lon…eed 3"), ("0123456789", 4, "01…9")],
)
def test_a_name_is_shortened_in_the_middle(text, width, said):
    assert shortened(text, width) == said
    assert len(said) <= width


# --- several GPUs on one machine ----------------------------------------------------------------------------------


class Slow:
    """Stands for a child process: notes its device, and how many share it."""

    now: ClassVar[dict[str, int]] = {}
    most: ClassVar[dict[str, int]] = {}
    lock = threading.Lock()

    def __init__(self, _job: str, _asked: object, _runtime: Runtime, environment: dict[str, str]) -> None:
        self.device = environment["CUDA_VISIBLE_DEVICES"]

    def ended(self) -> Ended:
        with self.lock:
            self.now[self.device] = self.now.get(self.device, 0) + 1
            self.most[self.device] = max(self.most.get(self.device, 0), self.now[self.device])
        time.sleep(0.05)
        with self.lock:
            self.now[self.device] -= 1
        return Ended(0, {}, "")


def test_runs_share_no_gpu_where_none_is_shared_out():
    with (
        pytest.raises(BadSpec, match="per_device: no GPU is shared out here"),
        local.workers(Execution(per_device=3), Store("runs"), []),
    ):
        pass


@pytest.mark.parametrize(("per_device", "jobs", "most"), [(None, None, 1), (3, None, 3), (3, 1, 1), (1, 9, 1)])
def test_a_gpu_has_one_run_at_a_time_or_as_many_as_asked(per_device, jobs, most, monkeypatch):
    monkeypatch.setattr(local, "Child", Slow)
    monkeypatch.setattr(Slow, "most", {})
    how = Execution(per_device=per_device, jobs=jobs)
    tasks = [Task(f"run{number}", {}, QUIET) for number in range(12)]
    with local.workers(how, Store("runs"), ["0", "GPU-7f"]) as workers:
        workers.start(tasks)
        ended: list[str] = []
        wait_for(lambda: len(ended.extend(run for run, _ in workers.ended(0.1)) or ended) == 12)
    assert set(Slow.most) <= {"0", "GPU-7f"}
    assert max(Slow.most.values()) == most
    assert jobs == 1 or len(Slow.most) == 2


SEEING = """
import os
from pathlib import Path
from torch import nn

class Seeing(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)
    def forward(self, x):
        if self.training:
            Path(f"saw-{os.environ.get('CUDA_VISIBLE_DEVICES')}").touch()
        return x + 0 * self.mix(x).mean()
"""


@pytest.mark.slow
def test_the_process_of_a_run_sees_its_own_gpu_alone(monkeypatch, data_dir):
    Path("seeing.py").write_text(SEEING)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    specs = [RunSpec(**TINY, attention="seeing:Seeing", seed=seed) for seed in range(2)]
    monkeypatch.setattr(sweep, "ask", lambda *asked: {**ask(*asked), "devices": ["4", "6"]})
    runtime = dataclasses.replace(QUIET, data_dir=str(data_dir), device="cpu")
    Path("runs").mkdir()
    assert execute(Sweep(specs, runtime)) == []
    assert {file.name for file in Path().glob("saw-*")} >= {"saw-4", "saw-6"}


# --- another machine ----------------------------------------------------------------------------------------------


def expected(data_dir: Path, **changed: Any) -> dict[str, Any]:
    """What the first run counts on, with the images as they are here."""
    fields = sweep._sendable(SPECS[:1])[0]
    images = ask("prepare", {"specs": [fields]}, dataclasses.replace(QUIET, data_dir=str(data_dir)), Told())["images"]
    return {**expectation(SPECS[0], fields, images), **changed}


@pytest.mark.slow
def test_a_machine_with_other_code_versions_or_images_is_refused_in_one_line_before_it_trains(data_dir):
    asked = {"spec": SPECS[0].fields, "recipe": "", "view": {"experiment": "e", "params": {}}}
    right = expected(data_dir)
    other = {**right["decides"], "code": "0123456789abcdef", "torch": "1.0.0"}
    runtime = dataclasses.replace(QUIET, data_dir=str(data_dir))
    ended = Child("train", {**asked, "expected": {**right, "decides": other}}, runtime).ended()
    assert ended.code == AttnbenchError.exit_code
    assert "code" in ended.reason
    assert "(there 0123456789abcdef), torch" in ended.reason
    assert not list(Path().glob("runs/*/journal.jsonl"))
    insist(right, SPECS[0], str(data_dir))
    for changed, complaint in (
        ({"images": "other"}, "has other images of digits"),
        ({"run": "0" * 12}, "your own code"),
    ):
        with pytest.raises(AttnbenchError, match=complaint) as refused:
            insist({**right, **changed}, SPECS[0], str(data_dir))
        assert "\n" not in str(refused.value)


def test_one_kind_of_run_is_one_whatever_its_seed_and_however_it_was_sent():
    sent = json.loads(json.dumps(SPECS[1].fields))
    assert agreement.kind(sent) == agreement.kind(SPECS[0].fields)


def test_the_users_own_files_are_carried_with_the_packages_they_lie_in():
    for name, text in {
        "ours/__init__.py": "",
        "ours/gates/__init__.py": "",
        "ours/gates/mine.py": "from ours.parts import half\nimport torch",
        "ours/parts.py": "half = 0.5",
        "ours/unused.py": "",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    files = carried(Path("ours/gates/mine.py"), "ours.gates.mine")
    assert set(files) == {"ours/__init__.py", "ours/gates/__init__.py", "ours/gates/mine.py", "ours/parts.py"}
    assert files["ours/parts.py"] == b"half = 0.5"
    assert carried(Path(pytest.__file__), "pytest") == {}, "what is installed is installed there too"


@pytest.fixture
def far() -> tuple[Store, str]:
    """A store with a done run, on a machine that does not see ours."""
    run = made.run(Path("far"), SPECS[0], 80).id
    (Path("far") / run / "checkpoint-00001-0000000.pt").write_bytes(b"state")
    Store("far").log(run, "done")
    return Store("far"), run


def test_a_run_comes_back_as_it_was_without_its_checkpoints(far):
    store, run = far
    received(Store("runs"), run, packed(store, run))
    assert {file.name for file in Path("runs", run).iterdir()} == {"record.json", "journal.jsonl", "predictions.npz"}
    assert Store("runs").find(run) == store.find(run)
    assert packed(Store("far"), "nosuch") == {}
    received(Store("runs"), "nosuch", {})
    assert not Path("runs/nosuch").exists()


@pytest.mark.parametrize("name", ["../escaped", "record.json/x", "code.py", "checkpoint-00001-0000000.pt"])
def test_a_file_that_no_run_has_is_refused_and_nothing_is_kept(far, name):
    store, run = far
    with pytest.raises(StoreProblem, match="a file that no run has"):
        received(Store("runs"), run, {**packed(store, run), name: b""})
    assert not Path("runs").exists()


def test_another_runs_record_and_half_a_record_are_refused(far):
    store, run = far
    files = packed(store, run)
    for wrong, complaint in ((SPECS[1].id, "with the record of run"), (run, "without a record")):
        changed = files if wrong != run else {**files, "record.json": files["record.json"][:50]}
        with pytest.raises(StoreProblem, match=complaint):
            received(Store("runs"), wrong, changed)
    assert not Path("runs").exists()


def test_a_record_that_is_there_already_stays_and_one_of_other_images_is_set_aside(far):
    store, run = far
    files = packed(store, run)
    received(Store("runs"), run, files)
    before = Path("runs", run, "record.json").stat().st_mtime_ns
    received(Store("runs"), run, files)
    assert Path("runs", run, "record.json").stat().st_mtime_ns == before
    other = dataclasses.replace(store.find(run), data_fingerprint="others")
    received(Store("runs"), run, {**files, "record.json": other.to_json().encode()})
    assert Store("runs").find(run).data_fingerprint == "others"
    assert Path("runs", run, "record-1.json").exists()
