"""Everything that wants a CUDA device, once: tests, then goals G1 to G7; what fails is written down like what works.

make gpu OUT=folder [DATA=folder]      or: PYTHONPATH=src python benchmarks/gpu.py --out folder

Each part runs in a process of its own, so that none can take another down, and ends when its time is over. What the
tests or a part leave of their time goes to the parts after them.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = ("pytest", "xdist", "pytest_timeout", "timm", "airbench", "mlflow", "altair", "sklearn", "optuna", "triton")
SECONDS = {
    "steps": 50,
    "loops": 36,
    "study": 66,
    "compiled": 68,
    "cifar10": 48,
    "steps-resnet50": 40,
    "eurosat": 40,
}
"""Parts of gpu_figures.py, the most important first, and the seconds of each in the default call, its end included."""
ASKED_FOR = {"loops-512": 36, "compiled-resnet20": 70, "compiled-resnet50": 150}
"""Parts that only `--only` measures: there is no time for them beside the others."""
ALL = {**SECONDS, **ASKED_FOR}
START, TESTS = 10, 110
"""Seconds until the tests begin, and those of the tests, their end included."""
PATIENCE = 6
"""Of its seconds, those in which a process that is told to end may say how far it came."""
FEWEST = 15
"""Seconds below which no part is begun."""
CARD = "name,driver_version,memory.total,clocks.max.sm,power.limit"
DEVICE = """
import json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda, "available": torch.cuda.is_available()}
if torch.cuda.is_available():
    about = torch.cuda.get_device_properties(0)
    found |= {"name": about.name, "GiB": round(about.total_memory / 2**30, 1), "cudnn": torch.backends.cudnn.version()}
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended, and in how many seconds."""

    code: int | None
    """None if its time was over."""
    seconds: float


def main() -> None:
    """Test, measure, and write report.json and report.md; says at the end what report.md says."""
    asked = parser().parse_args()
    began, out = time.monotonic(), asked.out.resolve()
    late = began + 60 * asked.minutes
    out.mkdir(parents=True, exist_ok=True)
    for name in ("figures.jsonl", "tests.xml", "collected.txt"):  # of an earlier run
        (out / name).unlink(missing_ok=True)
    found: dict[str, Any] = {"date": str(date.today()), **about(out), "out": str(out), "tests": "", "skipped": []}
    with tempfile.TemporaryDirectory(prefix="attnbench-gpu-", ignore_cleanup_errors=True) as scratch:
        if asked.data and not asked.data.is_dir():
            found["skipped"].append(f"no folder {asked.data}: G4 trains on noise, and G5 is left out")
            asked.data = None
        env = environment(Path(scratch), asked.data)
        if not found["device"].get("available"):
            found["skipped"] += ["torch sees no CUDA device here: no test of a GPU, and none of G1 to G7"]
        else:
            if asked.test_minutes:
                found["tests"] = tested(out, env, min(60 * asked.test_minutes, late - time.monotonic()))
                print(found["tests"], flush=True)
            found["skipped"] += [f"{name}: only with --only {name}" for name in ASKED_FOR if name not in asked.only]
            for skipped in measured(out, env, late, asked.only):
                found["skipped"] += skipped
                write(out, {**found, "seconds": time.monotonic() - began})  # in case that somebody ends all this
    write(out, {**found, "seconds": time.monotonic() - began})
    print((out / "report.md").read_text())


def write(out: Path, found: dict[str, Any]) -> None:
    """Write what has been found up to now, as JSON and as Markdown."""
    file = out / "figures.jsonl"
    found["figures"] = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    (out / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "report.md").write_text(report(found))


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--out", type=Path, default=Path("gpu-report"), help="folder that everything is written to")
    flags.add_argument("--data", type=Path, help="data folder with CIFAR10/ or EuroSAT/, as for attnbench --data-dir")
    minutes = round((START + TESTS + sum(SECONDS.values())) / 60, 2)
    flags.add_argument("--minutes", type=float, default=minutes, help=f"for everything (default: {minutes})")
    flags.add_argument("--test-minutes", type=float, default=TESTS / 60, help="of them for the tests; 0 for none")
    flags.add_argument("--only", nargs="*", choices=list(ALL), default=list(SECONDS), help="parts to measure")
    return flags


def about(out: Path) -> dict[str, Any]:
    """Device, driver, versions, and what is not installed."""
    seen = answer(["nvidia-smi", f"--query-gpu={CARD}", "--format=csv"])
    device = answer([sys.executable, "-c", DEVICE])
    if device.returncode:
        (out / "device.txt").write_text(device.stdout + device.stderr)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "nvidia_smi": seen.stdout.strip().splitlines(),
        "device": json.loads(device.stdout) if device.returncode == 0 else {"error": device.stderr[-2000:]},
        "missing": [name for name in OPTIONAL if importlib.util.find_spec(name) is None],
    }


def answer(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What a command says; exit code 1 where it is not there, or says nothing for a minute."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return subprocess.CompletedProcess(command, 1, "", str(problem))


def environment(scratch: Path, data: Path | None) -> dict[str, str]:
    """The environment of every part: our sources, and a folder for data, runs and compiled code that goes away."""
    (scratch / "data").mkdir()
    for entry in data.resolve().iterdir() if data else []:
        if entry.name != ".cache":
            (scratch / "data" / entry.name).symlink_to(entry)
    path = [str(ROOT / "src"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "ATTNBENCH_DATA_DIR": str(scratch / "data"),
        "ATTNBENCH_STORE": str(scratch / "runs"),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(scratch),
    }


def ended(command: Sequence[str], env: Mapping[str, str], log: Path, seconds: float) -> Ended:
    """Run a command, what it says into a file; it ends, with what it started, before the time is over."""
    began = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(env),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_heeding,
        )
        try:
            code: int | None = process.wait(max(0.0, seconds - PATIENCE))
        except subprocess.TimeoutExpired:
            code = None
            process.send_signal(signal.SIGINT)  # so that it says where it was
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Ended(code, time.monotonic() - began)


def _heeding() -> None:
    """A process that a shell began in the background ignores Ctrl-C, and so would all that it begins."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def tested(out: Path, env: Mapping[str, str], seconds: float) -> str:
    """Run tests/test_gpu.py; what came of it in a line, the whole in tests.txt and tests.xml."""
    if importlib.util.find_spec("pytest") is None:
        return "tests: none, since pytest is not installed"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/test_gpu.py", "-v", "--tb=short", "-W", "default"]
    command += ["-p", "no:cacheprovider", "-p", "gpu", f"--junitxml={out / 'tests.xml'}"]
    command += ["-n", "4"] if importlib.util.find_spec("xdist") else []
    done = ended(command, {**env, COLLECTED: str(out / "collected.txt")}, out / "tests.txt", seconds)
    last = (out / "tests.txt").read_text().strip().splitlines()[-1:]
    end = "their time was over" if done.code is None else f"exit code {done.code}"
    return f"tests: {end} after {done.seconds:.0f} s: {' '.join(last).strip('= ')}"


COLLECTED = "ATTNBENCH_GPU_COLLECTED"


def pytest_collection_finish(session: Any) -> None:
    """As a plugin of pytest, keep the names of the tests that are to run: those that time cuts off are told by it."""
    if session.items:  # not in the process that only tells the others what to do
        Path(os.environ[COLLECTED]).write_text("".join(f"{item.name}\n" for item in session.items))


def measured(out: Path, env: Mapping[str, str], late: float, parts: Sequence[str]) -> Iterator[list[str]]:
    """Measure the parts in their order while there is time; after each, says whether it was not measured, and why.

    Each has its seconds and, where more time is left than all of them need, its share of that.
    """
    for number, name in enumerate(parts):
        left = late - time.monotonic()
        share = left * ALL[name] / sum(ALL[part] for part in parts[number:])
        most = max(share, min(ALL[name], left))
        if most < FEWEST:
            yield [f"{name}: no time was left"]
            continue
        end = time.time() + most - PATIENCE
        command = [sys.executable, "benchmarks/gpu_figures.py", name, f"{end:.1f}", str(out / "figures.jsonl")]
        done = ended(command, env, out / f"{name}.txt", most)
        print(f"{name}: {done.seconds:.0f} s", flush=True)
        why = "its time was over" if done.code is None else f"exit code {done.code}"
        yield [f"{name}: {why}, its figures up to then are kept"] if done.code != 0 else []


def report(found: Mapping[str, Any]) -> str:
    """Everything in short, as Markdown."""
    device = found["device"]
    head = [
        f"# {device.get('name', 'no CUDA device')}, {found['date']}",
        "",
        f"torch {device.get('torch')}, CUDA {device.get('cuda')}, Python {found['python']}, {found['cores']} cores, "
        f"{found['seconds']:.0f} s. Not installed: {', '.join(found['missing']) or 'nothing'}.",
        *found["nvidia_smi"],
        "",
        found["tests"],
        *failed_tests(found),
        "",
        "| goal | what | wanted | found | quartiles | |",
        "|:--|:--|--:|--:|:--|:--|",
    ]
    rows = [row for row in found["figures"] if row["kind"] == "row"]
    failures = [row for row in found["figures"] if row["kind"] == "failed"]
    said = [row["what"] for row in found["figures"] if row["kind"] == "said"]
    lines = [*head, *map(_line, rows), ""]
    lines += [f"- FAILED {row['part']}: {row['what']}: {row['trace'].strip().splitlines()[-1]}" for row in failures]
    return "\n".join([*lines, *(f"- not measured: {what}" for what in [*found["skipped"], *said]), ""])


def _line(row: Mapping[str, Any]) -> str:
    wanted = f"{'>=' if row['more'] else '<='} {row['wanted']:g}" if row["wanted"] is not None else ""
    value, low, high = (f"{row[name]:,.0f}" if row["value"] >= 1000 else f"{row[name]:.3f}" for name in QUARTILES)
    return f"| {row['goal']} | {row['what']} | {wanted} | {value} | {low} to {high} | {row['outcome']} |"


QUARTILES = ("value", "low", "high")


def failed_tests(found: Mapping[str, Any]) -> list[str]:
    """A line for each test that failed or was skipped, and one with the names of all that time cut off."""
    file, collected = (Path(found.get("out", "")) / name for name in ("tests.xml", "collected.txt"))
    if not found["tests"] or not file.is_file():
        return []
    try:
        cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    except ElementTree.ParseError:  # its time was over while it was written
        return ["- tests.xml was cut off: tests.txt says which tests ran"]
    marks = [(case.get("name"), mark) for case in cases for mark in case if mark.tag in MARKS]
    lines = [
        f"- {MARKS[mark.tag]} {name}: {(mark.get('message') or '').strip().splitlines()[:1]}"[:300]
        for name, mark in marks
    ]
    ran = {case.get("name") for case in cases}
    cut = [name for name in collected.read_text().splitlines() if name not in ran] if collected.is_file() else []
    return [*lines, *([f"- not run, {len(cut)} tests, since their time was over: {', '.join(cut)}"] if cut else [])]


MARKS = {"failure": "FAILED", "error": "FAILED", "skipped": "SKIPPED"}
"""What the outcomes of a test in tests.xml are called in the report."""


if __name__ == "__main__":
    main()
