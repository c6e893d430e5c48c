"""Stopped at any moment and started again: the same bits as if nothing had happened, and nothing lost."""

import contextlib
import errno
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
import torch
from conftest import HANG, TINY, wait_for

import attnbench
from attnbench import RunSpec, Runtime, Store
from attnbench.errors import OutOfMemory, StoreProblem
from attnbench.spec.portable import lacking
from attnbench.store.environment import deciding
from attnbench.store.runs import RunRecord
from attnbench.training import loop, resuming
from attnbench.training import run as runner
from attnbench.training.state import State

FIELDS = {
    **TINY,
    "attention": "cbam",
    "augment": "crop+flip",
    "epochs": 4,
    "batch_size": 10,
    "val_fraction": 0.2,
    "averaging": 0.6,
    "progressive": 0.4,
    "tta": "flip",
}
SPEC = RunSpec(**FIELDS)
STEPS, LAST = 10, 39
SLOW = pytest.mark.slow
DONE = {"record.json", "journal.jsonl", "weights.safetensors", "predictions.npz", "tracking.json"}


SIGNALLED = """
import os, re, runpy, sys
_, moment, number, *words = sys.argv
sent = []

def signal_itself(event, details):
    if not sent and event in ("open", "os.rename") and re.search(moment, f"{event} {details[0]}"):
        sent.append(event)
        os.kill(os.getpid(), int(number))

sys.argv[:] = ["attnbench", *words]
sys.addaudithook(signal_itself)
runpy.run_module("attnbench", run_name="__main__", alter_sys=True)
"""
"""Sends itself a signal just before it opens or renames a file: polling from outside may come too late."""


class Killed(BaseException):
    """An end that nothing can catch, like SIGKILL but inside this process."""


def run(data_dir: Path, store: str = "runs", **runtime: Any) -> RunRecord:
    return attnbench.run(SPEC, Runtime(data_dir=str(data_dir), store=store, tracker="none", **runtime))


def bits(record: RunRecord, store: Path) -> tuple[object, ...]:
    """Everything that must not depend on how often a run was stopped."""
    arrays = np.load(store / record.id / "predictions.npz")
    curves = [{name: value for name, value in point.items() if "seconds" not in name} for point in record.curves]
    return record.weights_sha256, arrays["logits"].tobytes(), curves, record.test, record.selected


@pytest.fixture(scope="module")
def undisturbed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """The bits of the run when nobody stops it."""
    store = tmp_path_factory.mktemp("undisturbed")
    return bits(run(data_dir, str(store)), store)


@pytest.fixture
def command(data_dir: Path) -> list[str]:
    """The command that does the run, with a checkpoint after every step."""
    flags = [f"--{name}={value}" for name, value in FIELDS.items()]
    runtime = ["--tracker=none", f"--data-dir={data_dir}", "--checkpoint-minutes=0", "--store=runs"]
    return [sys.executable, "-m", "attnbench", "run", *flags, *runtime]


def signalled(command: list[str], moment: str, number: int) -> list[str]:
    """The same command, which sends itself a signal at a moment."""
    python, _, _, *words = command
    return [python, "-c", SIGNALLED, moment, str(int(number)), *words]


@contextlib.contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def killed(command: list[str], moment: str) -> bool:
    """Kill the command at the moment; False if it ended without."""
    return subprocess.run(signalled(command, moment, signal.SIGKILL), timeout=HANG).returncode == -signal.SIGKILL


def at(step: int, event: str = "open") -> str:
    """The moment at which the checkpoint of a step is about to be written, or to take its place."""
    epoch, rest = divmod(step, STEPS)
    return f"{event} .*checkpoint-{epoch:05}-{rest:07}"


def epochs_logged() -> list[int]:
    return [line["epoch"] for line in Store("runs").journal(SPEC.id) if line["event"] == "epoch"]


def steps_done() -> int:
    """How many steps the newest checkpoint is from the start."""
    found = sorted(file.stem.split("-")[1:] for file in Path("runs").glob("*/checkpoint-*.pt"))
    return int(found[-1][0]) * STEPS + int(found[-1][1]) if found else 0


def checked(undisturbed: tuple[object, ...]) -> RunRecord:
    """The record of the run, which must be as if nothing had happened, and clean."""
    record = Store("runs").find(SPEC.id)
    assert bits(record, Path("runs")) == undisturbed
    assert epochs_logged() == [1, 2, 3, 4]
    assert {file.name for file in Path("runs", SPEC.id).iterdir()} == DONE
    return record


@pytest.mark.parametrize(
    ("moment", "resumed"),
    [
        pytest.param(at(13), 1, id="in the middle of an epoch"),
        pytest.param(at(13, "os.rename"), 1, id="while a checkpoint is written", marks=SLOW),
        pytest.param(at(31), 1, id="after the third epoch", marks=SLOW),
        pytest.param("open .*journal.jsonl", 0, id="before the first step", marks=SLOW),
        pytest.param("os.rename .*weights.safetensors", 1, id="while it is stored", marks=SLOW),
    ],
)
def test_a_run_killed_at_a_moment_goes_on_to_the_same_bits(command, undisturbed, moment, resumed):
    assert killed(command, moment)
    assert subprocess.run(command, timeout=HANG).returncode == 0
    record, events = checked(undisturbed), [line["event"] for line in Store("runs").journal(SPEC.id)]
    assert record.resumed == events.count("resume") >= resumed


@SLOW
@pytest.mark.parametrize("chance", range(3))
def test_a_run_killed_again_and_again_at_random_goes_on_to_the_same_bits(command, undisturbed, chance):
    draw, aims, kills = random.Random(chance), [], 0
    for _ in range(4):
        aims.append(at(draw.randint(min(steps_done() + 1, LAST), LAST), draw.choice(["open", "os.rename"])))
        kills += killed(command, aims[-1])
    assert kills >= 1
    assert subprocess.run(command, timeout=HANG).returncode == 0
    assert checked(undisturbed).resumed >= 1, f"killed at {aims}"


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=SLOW)], ids=lambda number: number.name
)
def test_a_signal_leaves_a_checkpoint_and_the_exit_code_of_a_shell(command, undisturbed, number):
    with started(signalled(command, at(4), signal.SIGSTOP)) as process:
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 128 + number
    assert len(errors.splitlines()) == 1
    assert "goes on from here" in errors
    assert steps_done() >= 3
    assert subprocess.run(command, timeout=HANG).returncode == 0
    assert checked(undisturbed).resumed == 1


@SLOW
def test_a_second_signal_ends_at_once_and_the_last_checkpoint_serves(command, undisturbed):
    with started(signalled(command, at(4), signal.SIGSTOP)) as process:
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
            process.send_signal(number)
        _, errors = process.communicate(timeout=HANG)
    assert process.returncode in (130, 143)
    assert errors == "attnbench: stopped at once; the same command goes on from here\n"
    assert steps_done() == 3
    assert subprocess.run(command, timeout=HANG).returncode == 0
    checked(undisturbed)


@pytest.fixture
def interrupted(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Train in this process until after so many pauses, end it as a kill would, and give the run's folder."""

    def begin(pauses: int, **runtime: Any) -> Path:
        def broken(*arguments: Any) -> Iterator[Any]:
            for number, pause in enumerate(train(*arguments)):
                if number == pauses:
                    raise Killed
                yield pause

        train = loop.training
        with monkeypatch.context() as patch:
            patch.setattr(runner, "training", broken)
            with pytest.raises(Killed):
                run(data_dir, checkpoint_minutes=0.0, **runtime)
        return Path("runs", SPEC.id)

    return begin


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"))


@pytest.mark.parametrize("pauses", [1, 7, 10, 33, 39])
def test_wherever_it_stopped_a_run_goes_on_to_the_same_bits(data_dir, interrupted, undisturbed, pauses):
    interrupted(pauses)
    run(data_dir)
    assert checked(undisturbed).resumed == 1


def test_the_last_two_checkpoints_are_kept_and_none_when_done(data_dir, interrupted, undisturbed):
    folder = interrupted(15)
    kept = [file.name for file in checkpoints(folder)]
    assert kept == ["checkpoint-00001-0000004.pt", "checkpoint-00001-0000005.pt"]
    run(data_dir)
    assert checkpoints(folder) == []


@pytest.mark.parametrize("pauses", [5, *(pytest.param(count, marks=SLOW) for count in (10, 11))])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_behind_a_damaged_checkpoint_the_one_before_serves(data_dir, interrupted, undisturbed, pauses, damage, capsys):
    newest = checkpoints(interrupted(pauses))[-1]
    content = bytearray(newest.read_bytes())
    place = len(content) // 2
    if damage == "flipped":
        content[place] ^= 1  # in a weight: torch would read it without a word
    newest.write_bytes(content if damage == "flipped" else content[:place])
    run(data_dir)
    assert f"{newest} cannot be read" in capsys.readouterr().err
    assert checked(undisturbed).resumed == 1


def test_without_any_readable_checkpoint_a_run_starts_anew(data_dir, interrupted, undisturbed):
    for file in checkpoints(interrupted(12)):
        os.truncate(file, 100)
    run(data_dir)
    assert checked(undisturbed).resumed == 0


def test_what_a_crash_left_half_written_goes(data_dir, interrupted, undisturbed):
    folder = interrupted(12)
    (folder / "checkpoint-00000-0000777.pt.partial").write_bytes(b"half a checkpoint")
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "epoch", "epo')
    run(data_dir)
    checked(undisturbed)


@pytest.mark.parametrize("problem", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_a_checkpoint_that_cannot_be_read_just_now_stays(data_dir, interrupted, undisturbed, monkeypatch, problem):
    before = checkpoints(interrupted(12))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", Mock(side_effect=problem))
        with pytest.raises(StoreProblem if isinstance(problem, OSError) else OutOfMemory):
            run(data_dir)
    assert checkpoints(before[0].parent) == before
    run(data_dir)
    assert checked(undisturbed).resumed == 1


def test_a_full_device_says_nothing_of_the_checkpoint(data_dir, interrupted, monkeypatch):
    full = torch.OutOfMemoryError("CUDA out of memory")
    interrupted(12)
    monkeypatch.setattr(State, "restore", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(OutOfMemory):
        run(data_dir)


def test_a_run_begun_by_other_code_is_not_gone_on_with(data_dir, interrupted, monkeypatch):
    before = checkpoints(interrupted(12))
    with monkeypatch.context() as patch:
        patch.setattr(runner, "deciding", lambda: deciding() | {"code": "0" * 16, "numpy": "1.0"})
        with pytest.raises(StoreProblem, match=r"other numerical code, numpy [\d.]+ \(now 1\.0\); go on with the same"):
            run(data_dir)
    assert checkpoints(before[0].parent) == before


def test_what_was_in_force_for_a_part_stays_said_of_the_whole():
    now: dict[str, Any] = {"portable": True}
    resuming._take_over(now, {"portable": False, "processes": 2})
    assert now == {"portable": False, "processes": 2}
    resuming._take_over(now, {"portable": True})
    assert now == {"portable": False, "processes": 2}


@pytest.mark.slow
def test_a_checkpoint_of_other_numerics_is_refused_and_stays(data_dir, command, interrupted):
    folder = interrupted(15, threads=2)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    refused = subprocess.run([*command, "--threads=1"], capture_output=True, text=True, timeout=HANG)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "threads 2 (now 1)" in refused.stderr
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert run(data_dir, threads=2).resumed == 1


@pytest.mark.slow
@pytest.mark.skipif(bool(lacking()), reason=f"portable numerics need AVX2: {lacking()}")
def test_a_checkpoint_of_native_numerics_is_not_gone_on_with_in_portable_ones(command, interrupted):
    interrupted(15)
    refused = subprocess.run([*command, "--numerics=portable"], capture_output=True, text=True, timeout=60)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "begun with native numerics (now portable; --numerics native goes on)" in refused.stderr


@pytest.mark.slow
def test_two_processes_asked_for_one_run_train_it_once(command, undisturbed):
    with started(command) as first, started(command) as second:
        outputs = [process.communicate(timeout=HANG)[0] for process in (first, second)]
        assert [process.returncode for process in (first, second)] == [0, 0]
    assert checked(undisturbed).resumed == 0
    assert [line["event"] for line in Store("runs").journal(SPEC.id)].count("start") == 1
    assert len({output.splitlines()[-1] for output in outputs}) == 1


def small_disk(size: int) -> Callable[[], None]:
    """No file of this process may grow beyond `size` bytes, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return limit


@pytest.mark.parametrize("size", [2_000, *(pytest.param(size, marks=SLOW) for size in (0, 20_000))])
def test_on_a_full_disk_a_run_stops_in_one_line_and_goes_on_when_there_is_room(command, undisturbed, size):
    stopped = subprocess.run(command, capture_output=True, text=True, timeout=HANG, preexec_fn=small_disk(size))
    assert (stopped.returncode, len(stopped.stderr.splitlines())) == (2, 1), stopped.stderr
    assert "File too large" in stopped.stderr
    assert subprocess.run(command, timeout=HANG).returncode == 0
    checked(undisturbed)


@pytest.mark.parametrize("files", [("record.json",), ("weights.safetensors",), ("predictions.npz",)])
def test_whichever_file_finds_no_room_the_run_goes_on_later(data_dir, undisturbed, monkeypatch, files):
    def full(file: Path, mode: str = "w") -> contextlib.AbstractContextManager[Any]:
        return Path("/dev/full").open(mode) if file.name in files else replacing(file, mode)

    replacing = runner.replacing
    with monkeypatch.context() as patch:
        patch.setattr("attnbench.training.run.replacing", full)
        patch.setattr("attnbench.store.runs.replacing", full)
        patch.setattr("attnbench.store.predictions.replacing", full)
        with pytest.raises(StoreProblem, match="No space left"):
            run(data_dir)
    assert Store("runs").records() == []  # a full disk is no result of a mechanism
    run(data_dir)
    checked(undisturbed)


def test_an_installation_that_breaks_under_a_run_is_no_result_of_it(data_dir, undisturbed, monkeypatch):
    def gone(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'numpy.ctypeslib'")

    with monkeypatch.context() as patch:
        patch.setattr("attnbench.training.run._save", gone)
        with pytest.raises(ModuleNotFoundError):
            run(data_dir)
    assert Store("runs").records() == []
    run(data_dir)
    checked(undisturbed)


def test_a_store_that_cannot_be_made_is_said_in_one_line(command):
    Path("file").write_text("not a folder")
    refused = subprocess.run([*command[:-1], "--store=file/runs"], capture_output=True, text=True, timeout=HANG)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "file/runs" in refused.stderr
    assert Path("file").read_text() == "not a folder"


def state_at(epoch: int) -> dict[str, Any]:
    """What every checkpoint holds besides weights."""
    return {"epoch": epoch, "step": 0, "resumed": 0, "numerics": {}, "curves": []}


def test_a_damaged_checkpoint_does_not_push_out_good_ones(tmp_path):
    store = Store(tmp_path)
    store.begin("run")
    store.checkpoint("run", state_at(7))
    store.checkpoint("run", state_at(8))
    for file in store.folder("run").glob("*.pt"):
        file.write_bytes(b"damaged")
    assert store.latest("run") is None
    store.checkpoint("run", state_at(1))
    assert store.latest("run") == state_at(1)


def test_a_checkpoint_of_an_earlier_version_which_has_no_hash_serves_too(tmp_path):
    store = Store(tmp_path)
    store.begin("run")
    file = store.folder("run") / "checkpoint-00003-0000000.pt"
    torch.save({**state_at(3), "weights": torch.ones(1000)}, file)
    assert store.latest("run")["epoch"] == 3
    os.truncate(file, file.stat().st_size - 10)
    assert store.latest("run") is None
