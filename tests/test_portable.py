"""Portable numerics: the same bits on every processor with AVX2; and a record says what was in force."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY, repository_study

from attnbench import RunSpec, Runtime, Store, Study, cli, demo
from attnbench.errors import BadSpec
from attnbench.execution.sweep import Sweep, execute
from attnbench.spec.portable import PINS, lacking
from attnbench.store.runs import RunRecord
from attnbench.training.instructions import PORTABLE
from attnbench.training.numerics import differences

WITH_AVX2 = pytest.mark.skipif(bool(lacking()), reason=f"portable numerics need AVX2: {lacking()}")
X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="these are the names of x86-64's instructions")
FLAGS = [f"--{name}={value}" for name, value in TINY.items()]

RUN = """
import json, os, sys, torch, attnbench
if sys.argv[2] == "late":
    torch.ones(9).exp()
runtime = attnbench.Runtime(numerics="portable", tracker="none", data_dir=sys.argv[1])
record = attnbench.run(attnbench.RunSpec(**json.loads(sys.argv[3])), runtime)
print(record.id, sorted(name for name in os.environ if "CPU_ISA" in name or "CBWR" in name))
"""


@pytest.fixture(autouse=True)
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for here is asked for by the test, whatever the suite is run under."""
    for name in PINS:
        monkeypatch.delenv(name, raising=False)


def python(code: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, whose libraries have not computed anything."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})})


def write_study(numerics: str) -> Path:
    file = Path("tiny.json")  # JSON is YAML
    plan = {"name": "tiny", "base": {**TINY, "attention": "cbam"}, "baseline": "cbam", "numerics": numerics}
    file.write_text(json.dumps(plan))
    return file


def only(store: str) -> RunRecord:
    (record,) = Store(store).records()
    return record


@pytest.mark.slow
@WITH_AVX2
def test_a_run_from_the_shell_from_python_and_in_a_study_takes_portable_numerics_to_the_same_bits(attnbench, data_dir):
    everywhere = ("--tracker", "none", "--data-dir", data_dir)
    study = write_study("portable")
    told = python(RUN, data_dir, "early", json.dumps({**TINY, "attention": "cbam"}))
    assert told.stdout.split() == [only("runs").id, "[]"], told.stderr  # and the environment is left alone
    for command in (
        ("run", *FLAGS, "--attention=cbam", "--numerics=portable", "--store=shell"),
        ("study", study, "--store=study"),
        ("study", study, "--store=native", "--numerics=native"),
    ):
        done = attnbench(*command, *everywhere)
        assert done.returncode == 0, done.stderr
    kinds = {name: only(name) for name in ("runs", "shell", "study", "native")}
    assert len({kinds[name].weights_sha256 for name in ("runs", "shell", "study")}) == 1
    assert {name: record.numerics["portable"] for name, record in kinds.items()} == {
        "runs": True, "shell": True, "study": True, "native": False,
    }  # fmt: skip
    assert PORTABLE.items() <= kinds["study"].numerics.items()
    assert len({record.id for record in kinds.values()}) == 1  # numerics are no part of a run's name
    again = attnbench("reproduce", f"study/{only('study').id}", "--data-dir", data_dir)
    assert again.stdout.splitlines()[-1].startswith("identical: "), again.stdout + again.stderr


@X86
@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({"MKL_CBWR": "COMPATIBLE"}, {"mkl": "COMPATIBLE"}),
        ({"MKL_CBWR": "AUTO"}, {"mkl": "AUTO"}),
        ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, {"onednn": "Intel SSE4.1"}),
        ({"ATEN_CPU_CAPABILITY": "default"}, {"cpu_capability": "DEFAULT"}),
        ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, {"onednn": "Intel SSE4.1"}),
    ],
    ids=lambda given: ", ".join(f"{name} {value}" for name, value in given.items()),
)
def test_what_is_recorded_is_what_the_libraries_say_is_in_force(env, found):
    code = "import json; from attnbench.training.instructions import instructions; print(json.dumps(instructions()))"
    told = python(code, env=env)
    assert found.items() <= json.loads(told.stdout).items(), told.stderr  # and nothing else was printed


@WITH_AVX2
def test_portable_numerics_asked_for_too_late_in_a_process_are_refused(data_dir):
    told = python(RUN, data_dir, "late", json.dumps(TINY))
    last = told.stderr.splitlines()[-1]
    assert last.startswith("attnbench.errors.BadSpec: numerics: 'portable' must be asked for before torch computes")
    assert "MKL's branch OFF" in last
    assert "a new process works" in last
    assert not list(Path("runs").glob("*/record.json"))


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(sys, "path", sys.path.copy())


def ended(*arguments: object) -> object:
    with pytest.raises(SystemExit) as end:
        cli.main(list(map(str, arguments)))
    return end.value.code


@pytest.mark.parametrize("verb", ["run", "study"])
def test_a_flag_for_portable_numerics_is_refused_in_one_line_where_there_is_no_avx2(arm, capsys, data_dir, verb):
    what = FLAGS if verb == "run" else [write_study("native")]
    assert ended(verb, *what, "--numerics=portable", "--tracker=none", f"--data-dir={data_dir}") == 2
    said = "attnbench: numerics: 'portable' cannot be had here: an arm64 processor has no AVX2; 'native' works\n"
    assert capsys.readouterr().err == said


@pytest.mark.slow
def test_a_study_file_that_wants_them_goes_on_without_them_there_and_says_so(arm, capsys, data_dir):
    assert ended("study", write_study("portable"), "--tracker=none", f"--data-dir={data_dir}") == 0
    said = capsys.readouterr().err
    assert "tiny.json: no portable numerics here (an arm64 processor has no AVX2)" in said
    assert only("runs").numerics["portable"] is False


@pytest.mark.parametrize("wrong", [{"device": "cuda"}, {"compile": "always"}], ids=str)
def test_what_has_no_portable_numerics_is_refused(wrong: dict[str, Any]):
    with pytest.raises(BadSpec, match=f"{next(iter(wrong))}.*give numerics 'native'"):
        Runtime(numerics="portable", **wrong)


def test_differing_numerics_are_told_in_words():
    native = {"cpu_capability": "AVX512", "onednn": "Intel AVX-512", "mkl": "OFF", "portable": False, "threads": 1}
    portable = {**PORTABLE, "portable": True, "threads": 1}
    assert differences(portable, native) == "portable numerics (now native; --numerics portable goes on)"
    assert differences(native, {**portable, "threads": 2}) == (
        "native numerics (now portable; --numerics native goes on), threads 1 (now 2)"
    )
    assert differences(native, {**native, "cpu_capability": "AVX2", "onednn": "Intel AVX2"}) == (
        "torch's instructions AVX512 (now AVX2), oneDNN's instructions Intel AVX-512 (now Intel AVX2)"
    )


def test_the_committed_studies_have_portable_numerics():
    files = [demo.STUDY, *(f for f in sorted((ROOT / "studies").glob("*.yaml")) if not f.name.startswith("gpu-"))]
    found = {file.name: repository_study(file).numerics for file in files}
    assert found
    assert set(found.values()) == {"portable"}, found


@WITH_AVX2
@pytest.mark.parametrize("runs", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_the_demos_runs_have_the_bits_of_the_shipped_records(runs: int, data_dir: Path):
    """On whatever processor with AVX2 this is run: that is what portable numerics are for."""
    study, shipped = Study.load(demo.STUDY), Store(ROOT / "results" / "quick")
    runtime = Runtime(numerics="portable", store="runs", data_dir=str(data_dir), tracker="none")
    asked = study.runs()[:runs]
    assert execute(Sweep(asked, runtime, study.recipe)) == []
    for theirs, ours in [(shipped.find(spec.id), Store("runs").find(spec.id)) for spec in asked]:
        unlike = differences(theirs.numerics, ours.numerics)
        assert (ours.weights_sha256, ours.test) == (theirs.weights_sha256, theirs.test), f"the record has {unlike}"
    assert len(asked) == runs


def test_the_pins_reach_every_child_of_a_sweep_and_only_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(subprocess, "Popen", _recorder(seen))
    for numerics in ("portable", "native", None) if not lacking() else ("native", None):
        with pytest.raises(Recorded):
            execute(Sweep([RunSpec(**TINY)], Runtime(numerics=numerics, store="runs")))
    pinned = [{name: env[name] for name in PINS if name in env} for env in seen]
    assert pinned == [PINS, {}, {}][-len(pinned) :]


class Recorded(Exception):
    """Nothing needs to be started once it is known how."""


def _recorder(seen: list[dict[str, str]]) -> Callable[..., None]:
    def popen(_command: list[str], env: dict[str, str], **_rest: object) -> None:
        seen.append(env)
        raise Recorded

    return popen
