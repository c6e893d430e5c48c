"""P6, P8 and P9: what surrounds training, commands that train nothing, and runs side by side."""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paired import Ratio, Row, spread
from report_scale import made, stored

from attnbench.spec.study import Study
from attnbench.store.runs import Store

LONG = 300
"""Seconds of the run over which P6 spreads what is not training."""
RUN = ["run", "--dataset", "digits", "--backbone", "resnet20(widths=(4,8,8))", "--train-limit", "300", "--epochs", "10"]
STUDY = """
name: done
recipe: fast
base: {dataset: digits, backbone: resnet20}
grid: {attention: [none, se, cbam, eca]}
seeds: 5
baseline: none
"""
YARDSTICK = "import argparse, asyncio, dataclasses, email, inspect, json, logging, typing, unittest, urllib.request"
"""What a start of Python with a fixed part of its standard library takes: the same work on every machine."""
SIDE_BY_SIDE = """
import sys, time, torch
sys.path.insert(0, {here!r})
torch.set_num_threads({threads})
from steps import batch, ours_step, spec_of
from attnbench.training.numerics import keep_pages
keep_pages()
step = ours_step(spec_of("resnet20"), *batch(32))
step(); step()
print(flush=True)
sys.stdin.readline()
began = time.perf_counter()
for _ in range({steps}): step()
print(time.perf_counter() - began)
"""


def rows(quick: bool) -> Iterator[Row]:
    """The figures of P6, P8 and P9."""
    yield from _help(5 if quick else 9)
    if quick:
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Row("P6", "everything but training, in a run of 5 minutes", 0.02, False, *_around(Path(folder)))
        again = _done_study(Path(folder))
        yield Row("P8", "a study of 20 done runs again, CPU seconds", 3, False, *again, comparable=False)
        runs = Store(Path(folder) / "thousand")
        made(runs, cells=5, arms=20, seeds=10, images=5400)
        report = ["report", str(runs.path), "--out", f"{folder}/report"]
        took = spread([_cpu_seconds(report) for _ in range(3)])
        yield Row("P8", "a report over 1,000 runs, CPU seconds", 20, False, *took, comparable=False)
    yield Row("P9", "throughput: two one-thread runs / one two-thread run", 1.05, True, *_side_by_side(5))


def _help(rounds: int) -> Iterator[Row]:
    """Its CPU seconds, and in turn with them those of a yardstick."""
    took = [(_cpu_seconds(["--help"]), _python_seconds(["-c", YARDSTICK])) for _ in range(rounds)]
    yield Row("P8", "attnbench --help, CPU seconds", 0.5, False, *spread([own for own, _ in took]), comparable=False)
    ratios = spread([own / yardstick for own, yardstick in took])
    yield Row("P8", "attnbench --help / Python with a part of its library", None, False, *ratios)


def _cpu_seconds(arguments: list[str], cwd: Path | None = None) -> float:
    """User and system time of a command of ours and of all that it started."""
    return _python_seconds(["-m", "attnbench", *arguments], cwd)


def _python_seconds(arguments: list[str], cwd: Path | None = None) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _around(folder: Path) -> Ratio:
    """A run without its epochs (start, cache, tracking, checkpoints, record), over five minutes; CPU seconds."""
    shares = []
    for seed in range(4):
        used = _cpu_seconds([*RUN, "--seed", str(seed)], folder)
        record = max((folder / "runs").glob("*/record.json"), key=lambda file: file.stat().st_mtime)
        trained = sum(point["cpu_seconds"] for point in json.loads(record.read_text())["curves"])
        if seed:  # the first one decodes the images and makes the tracking database
            shares.append((used - trained) / LONG)
    return spread(shares)


def _done_study(folder: Path) -> Ratio:
    file = folder / "done.yaml"
    file.write_text(STUDY)
    stored(Store(folder / "done"), Study.load(file).runs(), 359)
    return spread([_cpu_seconds(["study", str(file), "--store", str(folder / "done")], folder) for _ in range(5)])


def _side_by_side(rounds: int, steps: int = 30) -> Ratio:
    """Wall time, since that is what two cores are for."""
    found = []
    for _ in range(rounds):
        one, two = _wall(1, 2, steps), _wall(2, 1, steps)
        found.append(2 * two / one)
    return spread(found)


def _wall(threads: int, processes: int, steps: int) -> float:
    """Seconds until the last of some processes, begun together, has done its steps."""
    code = SIDE_BY_SIDE.format(here=str(Path(__file__).parent), threads=threads, steps=steps)
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    started: list[Any] = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    return max(float(process.communicate()[0]) for process in started)
