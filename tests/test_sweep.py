"""Studies: each run in a process of its own, nothing twice, nothing lost; and `reproduce`, which trains once more."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import HANG, TINY, wait_for
from PIL import Image

from attnbench.execution.sweep import Sweep
from attnbench.spec.run import RunSpec, Runtime
from attnbench.store.runs import RunRecord, Store

MINE = (
    f"""
HANG = {HANG}
"""
    + """
import os, signal, time
from pathlib import Path
from torch import nn

class Gate(nn.Module):
    calls = 0
    def __init__(self, channels, ratio=1):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels // ratio, 1)
    def forward(self, x):
        if self.training and x.device.type == "cpu" and len(x) > 2:  # not in the trial before training
            type(self).calls += 1
            getattr(self, "see", int)()
        return x + 0 * self.mix(x).mean()

class Waiting(Gate):  # until two processes have come here
    def see(self):
        Path(f"pid-{os.getpid()}").touch()
        late = time.monotonic() + HANG
        while len(list(Path().glob("pid-*"))) < 2:
            assert time.monotonic() < late, "the other run did not come"
            time.sleep(0.05)

class Failing(Gate):  # in the first `times` processes
    def __init__(self, channels, times=1):
        super().__init__(channels)
        self.times = times
    def see(self):
        if self.calls == 1:
            Path(f"tried-{self.times}-{os.getpid()}").touch()
        if len(list(Path().glob(f"tried-{self.times}-*"))) <= self.times:
            raise RuntimeError(f"planted in one of {self.times}")

class Mortal(Gate):  # once, in its second epoch
    def see(self):
        if self.calls == 50 and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

class Deaf(Gate):  # in its third step for ever, whatever it is told
    def see(self):
        if self.calls == 19 and not Path("go").exists():
            Path(f"began-{os.getpid()}").touch()
            time.sleep(HANG)

class Held(Gate):  # in its third step until it is told to stop; no longer when somebody has written the file `go`
    at = 19
    def see(self):
        if self.calls != self.at or Path("go").exists():
            return
        told = []
        for number in (signal.SIGINT, signal.SIGTERM):
            stop = signal.getsignal(number)
            signal.signal(number, lambda *of, stop=stop: (told.append(of), stop(*of)))
        Path(f"began-{os.getpid()}").touch()
        while not told:
            time.sleep(0.01)

class Late(Held):  # in the third step of its second epoch
    at = 55
"""
)

Outcome = subprocess.CompletedProcess[str]
Trainer = Callable[..., Outcome]


def write_study(name: str, attention: list[str], seeds: int = 1, **base: object) -> Path:
    """A study of tiny runs, in the working folder."""
    Path("mine.py").write_text(MINE)
    file = Path(f"{name}.json")  # JSON is YAML
    study = {"name": name, "base": {**TINY, **base}, "grid": {"attention": attention}, "seeds": seeds}
    file.write_text(json.dumps({**study, "baseline": attention[0]}))
    return file


@pytest.fixture
def train(attnbench: Trainer, data_dir: Path) -> Trainer:
    """Run a study file with the session's data and without MLflow."""

    def call(study: Path, *flags: object) -> Outcome:
        return attnbench("study", study, "--tracker", "none", "--data-dir", data_dir, *flags)

    return call


def records(store: str = "runs") -> dict[str, RunRecord]:
    """The records of a store by the mechanism."""
    return {record.spec["attention"]: record for record in Store(store).records()}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, attnbench: Trainer, data_dir: Path) -> tuple[Path, Outcome]:
    """A store with two done runs, none and se, and what the study printed."""
    home = tmp_path_factory.mktemp("swept")
    file, flags = home / "two.json", ("--tracker", "none", "--data-dir", data_dir, "--jobs", 2)
    file.write_text(json.dumps({"name": "two", "base": TINY, "grid": {"attention": ["none", "se"]}}))
    outcome = attnbench("study", file, *flags, "--store", home / "runs")
    assert outcome.returncode == 0, outcome.stderr
    return home, outcome


@pytest.fixture
def done(swept: tuple[Path, Outcome]) -> Path:
    """The two done runs in ./runs, for this test alone; returns their study file."""
    shutil.copytree(swept[0] / "runs", "runs")
    return write_study("two", ["none", "se"])


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of the runs, byte by byte."""
    return {file: file.read_bytes() for file in sorted(folder.glob("[!.]*/*"))}


def test_a_study_says_what_it_did(swept):
    home, outcome = swept
    assert "two: 2 runs, 0 done, 2 left" in outcome.stdout
    assert f"two: 2 of 2 runs are done in {home / 'runs'}/" in outcome.stdout
    assert [record.recipe for record in Store(home / "runs").records()] == ["classic", "classic"]
    for record in Store(home / "runs").records():
        assert re.search(rf"{record.id}  digits .* {record.accuracy:.2f} %", outcome.stdout)


def test_what_is_done_is_skipped_and_left_as_it_is(done, train):
    before = contents(Path("runs"))
    again = train(done)
    assert (again.returncode, again.stderr) == (0, "")
    assert "two: 2 runs, 2 done, 0 left" in again.stdout
    assert contents(Path("runs")) == before


@pytest.mark.slow
def test_two_studies_that_share_runs_train_each_once(done, train):
    before = contents(Path("runs"))
    wider = train(write_study("wider", ["none", "SE()", "cbam"]))  # another spelling, the same run
    assert wider.returncode == 0, wider.stderr
    assert "wider: 3 runs, 2 done, 1 left" in wider.stdout
    assert {file: contents(Path("runs"))[file] for file in before} == before
    assert set(records()) == {"none", "se", "cbam"}


def test_two_jobs_are_two_runs_at_a_time_in_processes_of_their_own(train):
    outcome = train(write_study("pair", ["mine:Waiting"], seeds=2), "--jobs", 2)
    assert outcome.returncode == 0, outcome.stderr
    assert len(list(Path().glob("pid-*"))) == 2
    assert not Path(f"pid-{os.getpid()}").exists()


@pytest.mark.slow
def test_a_mechanism_of_the_users_own_in_the_working_folder_is_studied_like_ours(train):
    outcome = train(write_study("mine", ["none", "mine:Gate", "mine:Gate(ratio=2)"]), "--jobs", 2)
    assert outcome.returncode == 0, outcome.stderr
    plain, one, half = (records()[name].cost["parameters"] for name in ("none", "mine:Gate", "mine:Gate(ratio=2)"))
    widths = [4] * 3 + [8] * 6  # 1x1 convolutions of C to C // ratio channels, one a block
    assert one - plain == sum(width * width + width for width in widths)
    assert half - plain == sum(width * (width // 2) + width // 2 for width in widths)


@pytest.mark.slow
def test_a_study_goes_on_after_a_failed_run_and_says_what_failed_and_why(train):
    outcome = train(write_study("planted", ["mine:Failing(times=9)", "none"]))
    assert outcome.returncode == 1
    failed = records()["mine:Failing(times=9)"]
    assert records()["none"].done
    assert (failed.status, failed.error) == ("failed", "RuntimeError: planted in one of 9")
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("failed: ")]
    assert failed.id in line
    assert "mine:Failing(times=9) seed 0: RuntimeError: planted in one of 9" in line
    assert "planted: 1 of 2 runs are done" in outcome.stdout


@pytest.mark.slow
def test_a_run_is_tried_again_as_often_as_retries_says_and_not_more(train):
    outcome = train(write_study("again", ["mine:Failing", "mine:Failing(times=9)"]), "--retries", 1)
    assert outcome.returncode == 1
    assert (records()["mine:Failing"].status, records()["mine:Failing(times=9)"].status) == ("done", "failed")
    assert len(list(Path().glob("tried-1-*"))) == 2
    assert len(list(Path().glob("tried-9-*"))) == 2


@pytest.mark.slow
def test_a_run_whose_process_is_killed_is_reported_and_goes_on_with_the_next_call(train):
    study = write_study("mortal", ["mine:Mortal"])
    first = train(study)
    assert first.returncode == 1
    assert "SIGKILL" in first.stderr
    assert not records()
    assert train(study).returncode == 0
    assert train(study, "--store", "whole").returncode == 0
    resumed, whole = records()["mine:Mortal"], records("whole")["mine:Mortal"]
    assert (resumed.resumed, whole.resumed) == (1, 0)
    assert (resumed.weights_sha256, resumed.test) == (whole.weights_sha256, whole.test)


@pytest.fixture
def training(data_dir: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A study of two runs, both in the third of the four steps of their first epoch, each through 9 modules."""
    study = write_study("held", [getattr(request, "param", "mine:Held")], seeds=2)
    command = [sys.executable, "-m", "attnbench", "study", str(study), "--jobs", "2", "--tracker", "none"]
    command += ["--data-dir", str(data_dir)]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # it is not where a shell put us behind
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    try:
        wait_for(lambda: len(list(Path().glob("began-*"))) == 2 or parent.poll() is not None)
        yield parent, study
    finally:
        parent.kill()
        parent.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_stopped_study_leaves_checkpoints_and_finishes_later_with_the_same_bits(training, train, number, code):
    parent, study = training
    children = [psutil.Process(int(file.name.split("-")[1])) for file in Path().glob("began-*")]
    assert not list(Path().rglob("checkpoint-*"))
    parent.send_signal(number)
    complaint = parent.communicate(timeout=HANG)[1]
    assert parent.returncode == code
    assert complaint.count("\n") == (0 if code < 0 else 1), complaint  # "the same command goes on from here"
    _, alive = psutil.wait_procs(children, timeout=HANG)
    assert not alive, "runs went on without their study"
    positions = [file.stem.split("-")[1:] for file in Path("runs").rglob("checkpoint-*.pt")]
    assert [(int(epoch), int(step)) for epoch, step in positions] == [(0, 3), (0, 3)]
    Path("go").touch()
    for flags in ((), ("--store", "whole")):
        assert train(study, "--jobs", 2, *flags).returncode == 0
    stopped, whole = Store("runs").records(), Store("whole").records()
    assert [record.weights_sha256 for record in stopped] == [record.weights_sha256 for record in whole]
    assert [record.resumed for record in (*stopped, *whole)] == [1, 1, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("training", ["mine:Deaf"], indirect=True)
def test_a_second_ctrl_c_ends_a_study_at_once_though_a_step_never_ends(training, train):
    parent, study = training
    children = [psutil.Process(int(file.name.split("-")[1])) for file in Path().glob("began-*")]
    parent.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        parent.wait(2)
    parent.send_signal(signal.SIGINT)
    complaint = parent.communicate(timeout=HANG / 2)[1]
    assert (parent.returncode, complaint.count("\n")) == (130, 1), complaint
    _, alive = psutil.wait_procs(children, timeout=HANG / 2)
    assert not alive, "runs went on without their study"
    Path("go").touch()
    assert train(study, "--jobs", 2).returncode == 0


# --- before anything is trained -----------------------------------------------------------------------------------


def test_a_dry_run_needs_no_data_and_leaves_nothing(attnbench):
    study = write_study("plan", ["none", "se"], seeds=3, dataset="CIFAR10", train_limit=None, test_limit=None)
    said = attnbench("study", study, "--dry-run")
    assert (said.returncode, said.stderr) == (0, "")
    assert "plan: 6 runs, 0 done, 6 left" in said.stdout
    assert float(re.search(r"about ([\d.]+) hours", said.stdout)[1]) > 0
    assert {path.name for path in Path().iterdir()} <= {"mine.py", "plan.json", "__pycache__"}


def test_a_dry_run_names_what_is_left(done, attnbench):
    before = contents(Path("runs"))
    said = attnbench("study", write_study("more", ["none", "se"], seeds=2), "--dry-run").stdout
    assert "more: 4 runs, 2 done, 2 left" in said
    left = [RunSpec(**TINY, attention=name, seed=1).id for name in ("none", "se")]
    assert re.findall(r"^  ([0-9a-f]{12})  ", said, re.MULTILINE) == left
    assert contents(Path("runs")) == before


def test_a_run_is_called_by_what_varies():
    specs = [RunSpec(**{**TINY, "lr": lr, "tta": tta}) for lr, tta in ((0.1, "none"), (0.2, "flip"))]
    called = [Sweep(specs, Runtime()).describe(spec) for spec in specs]
    always = f"{TINY['dataset']} {TINY['backbone']} none"
    assert called == [f"{always} lr 0.1 tta none seed 0", f"{always} lr 0.2 tta flip seed 0"]
    assert Sweep(specs[:1], Runtime()).describe(specs[0]) == f"{always} seed 0"


def test_data_that_cannot_be_read_are_one_line_and_no_run(attnbench):
    for name in ("cat", "dog"):
        (Path("data") / "pets" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (8, 8), (number, 9, 9)).save(Path("data") / "pets" / name / f"{number}.png")
    (Path("data") / "pets" / "dog" / "3.png").write_bytes(b"no picture")
    study = write_study("pets", ["none", "se", "cbam"], dataset='imagefolder(path="pets")', image_size=8)
    refused = attnbench("study", study, "--tracker", "none", "--jobs", 2)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "dog/3.png" in refused.stderr
    assert {path.name for path in Path("runs").iterdir()} <= {"studies", ".locks"}, "only the plan is kept"


def test_no_jobs_at_all_are_refused(attnbench):
    refused = attnbench("study", write_study("plain", ["none"]), "--jobs", 0)
    assert (refused.returncode, refused.stderr) == (2, "attnbench: jobs: 0 must be at least 1\n")


# --- once more ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_reproduce_finds_a_fresh_run_identical_and_leaves_the_store_alone(done, attnbench, data_dir):
    before, run = contents(Path("runs")), records()["se"].id
    again = attnbench("reproduce", run[:6], "--data-dir", data_dir)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].startswith("identical: ")
    assert contents(Path("runs")) == before


@pytest.mark.slow
def test_reproduce_calls_other_bits_different(done, attnbench, data_dir):
    file = Path("runs") / records()["se"].id / "record.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "weights_sha256": "0" * 64}))
    again = attnbench("reproduce", file.parent, "--data-dir", data_dir)
    assert again.returncode == 1
    assert "\ndifferent: " in f"\n{again.stdout}"
