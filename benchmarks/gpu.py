"""Everything that wants a CUDA device, once: tests, then goals G1 to G7; what fails is written down like what works.

make gpu OUT=folder [DATA=folder]      or: PYTHONPATH=src python benchmarks/gpu.py --out folder --minutes 5

Each part runs in a process of its own, so that none can take another down, and ends when its time is over.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import shutil
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
    "steps": 70,
    "loops": 50,
    "study": 80,
    "compiling": 70,
    "cifar10": 90,
    "steps-resnet50": 45,
    "steps-512": 25,
    "compiled": 120,
    "eurosat": 90,
    "compiled-resnet50": 150,
    "compiling-resnet50": 90,
}
"""Parts of gpu_figures.py, the most important first, and the seconds that each may take."""
PATIENCE = 8
"""Seconds in which a process whose time is over may say how far it came."""
FEWEST = 15
"""Seconds below which no part is begun."""
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
    out.mkdir(parents=True, exist_ok=True)
    for name in ("figures.jsonl", "tests.xml"):  # of an earlier run
        (out / name).unlink(missing_ok=True)
    found: dict[str, Any] = {"date": str(date.today()), **about(out), "out": str(out), "tests": "", "skipped": []}
    with tempfile.TemporaryDirectory(prefix="attnbench-gpu-") as scratch:
        if asked.data and not asked.data.is_dir():
            found["skipped"].append(f"no folder {asked.data}: G4 trains on noise, and G5 is left out")
            asked.data = None
        env = environment(Path(scratch), asked.data)
        if not found["device"].get("available"):
            found["skipped"] += ["torch sees no CUDA device here: no test of a GPU, and none of G1 to G7"]
        else:
            if asked.test_minutes:
                found["tests"] = tested(out, env, 60 * asked.test_minutes)
                print(found["tests"], flush=True)
            for skipped in measured(out, env, 60 * asked.minutes, asked.only):
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
    flags.add_argument("--minutes", type=float, default=5, help="for what is measured")
    flags.add_argument("--test-minutes", type=float, default=2.5, help="for the tests; 0 for none")
    flags.add_argument("--only", nargs="*", choices=list(SECONDS), default=list(SECONDS), help="parts to measure")
    return flags


def about(out: Path) -> dict[str, Any]:
    """Device, driver, versions, and what is not installed."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit", "--format=csv"]
    seen = subprocess.run(query, capture_output=True, text=True).stdout if shutil.which(query[0]) else ""
    device = subprocess.run([sys.executable, "-c", DEVICE], capture_output=True, text=True)
    if device.returncode:
        (out / "device.txt").write_text(device.stdout + device.stderr)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "nvidia_smi": seen.strip().splitlines(),
        "device": json.loads(device.stdout) if device.returncode == 0 else {"error": device.stderr[-2000:]},
        "missing": [name for name in OPTIONAL if importlib.util.find_spec(name) is None],
    }


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
    """Run a command, what it says into a file; it ends, with what it started, when the time is over."""
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
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            process.send_signal(signal.SIGINT)  # so that it says where it was
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        finally:
            if process.poll() is None:
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
    command += ["-p", "no:cacheprovider", f"--junitxml={out / 'tests.xml'}"]
    command += ["-n", "4"] if importlib.util.find_spec("xdist") else []
    done = ended(command, env, out / "tests.txt", seconds)
    last = (out / "tests.txt").read_text().strip().splitlines()[-1:]
    end = "their time was over" if done.code is None else f"exit code {done.code}"
    return f"tests: {end} after {done.seconds:.0f} s: {' '.join(last).strip('= ')}"


def measured(out: Path, env: Mapping[str, str], seconds: float, parts: Sequence[str]) -> Iterator[list[str]]:
    """Measure the parts in their order while there is time; after each, says whether it was not measured, and why."""
    late = time.monotonic() + seconds
    for name in parts:
        left = late - time.monotonic()
        if left < FEWEST:
            yield [f"{name}: no time was left"]
            continue
        most = min(SECONDS[name], left)
        command = [sys.executable, "benchmarks/gpu_figures.py", name, f"{most:.0f}", str(out / "figures.jsonl")]
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
    """A line for each test that failed."""
    file = Path(found.get("out", "")) / "tests.xml"
    if not found["tests"] or not file.is_file():
        return []
    try:
        cases = ElementTree.parse(file).getroot().iter("testcase")
    except ElementTree.ParseError:  # its time was over while it was written
        return []
    broken = [(case.get("name"), mark) for case in cases for mark in case if mark.tag in ("failure", "error")]
    return [f"- FAILED {name}: {(mark.get('message') or '').strip().splitlines()[:1]}"[:300] for name, mark in broken]


if __name__ == "__main__":
    main()
