"""What the docs show of results/speed/speed.json, which `make bench` writes, and of recipes: searches and studies."""

import json
import statistics
from pathlib import Path
from typing import Any

from scipy.stats import f

from attnbench.comparison import Arm, compare
from attnbench.report.charts import lines, static
from attnbench.store import RunRecord, Store
from attnbench.study import Study

ROOT = Path(__file__).parent.parent
FILE = ROOT / "results" / "speed" / "speed.json"


def speed() -> str:
    """Each goal with its figure, and what it was measured on."""
    found = _found()
    packages = ", ".join(f"{name} {found['packages'][name]}" for name in ("torch", "torchvision", "numpy"))
    lines = [
        f"Measured on {found['date']}: {found['cpu']}, {found['cores']} cores, Python {found['python']}, {packages}.",
        "",
    ]
    lines += ["| | measured | goal | median | quartiles | rounds | |", "|:--|:--|--:|--:|:--|--:|:--|"]
    for row in found["rows"]:
        lines.append(_line(row))
    return "\n".join(lines) + "\n"


def where() -> str:
    """Milliseconds of a step by kind of operation."""
    rows = _found()["where"]
    kinds = [name for name in rows[0] if name != "what"]
    lines = [f"| ResNet-20, batch 32 | {' | '.join(kinds)} | all |", f"|:--|{'--:|' * (len(kinds) + 1)}"]
    for row in rows:
        values = [row[kind] for kind in kinds]
        lines.append(f"| {row['what']} | {' | '.join(f'{value:.1f}' for value in (*values, sum(values)))} |")
    return "\n".join(lines) + "\n"


def search(name: str) -> str:
    """What was tried on validation images, in the order in which it was."""
    lines = ["| tried | CPU seconds | validation | training |", "|:--|--:|--:|--:|"]
    for text in (ROOT / "results" / "search" / f"{name}.jsonl").read_text().splitlines():
        one = json.loads(text)
        fields = ", ".join(f"{field} {value}" for field, value in one["given"].items())
        found = (
            f"{one['diverged']} |" if "diverged" in one else f"{one['accuracy']:.2f} % | {one['train_accuracy']:.2f} %"
        )
        lines.append(f"| {fields} | {one.get('cpu_seconds', 0):.0f} | {found} |")
    return "\n".join(lines) + "\n"


def target(name: str) -> str:
    """Every run of a study: what it reached, and the CPU time of its training."""
    rows = ["| seed | test accuracy | training accuracy, last epoch | CPU minutes |", "|--:|--:|--:|--:|"]
    ((_, arm),) = _arms(name)
    for record in arm.records:
        train, seed = record.curves[-1]["train_accuracy"], record.spec["seed"]
        rows.append(f"| {seed} | {record.accuracy:.2f} % | {train:.2f} % | {_minutes(record):.1f} |")
    minutes = statistics.fmean(map(_minutes, arm.records))
    rows.append(f"| **mean of {arm.accuracy.n}** | **{_interval(arm)}** | | **{minutes:.1f}** |")
    return "\n".join(rows) + "\n"


def verdict(name: str) -> str:
    """CPU time, spread, and their product, of a study with two recipes; the last line is the second over the first."""
    head = "| recipe | runs | test accuracy | standard deviation | CPU minutes a run | CPU minutes x variance |"
    rows = [head, "|:--|--:|--:|--:|--:|--:|"]
    costs, ends = [], []
    for title, arm in _arms(name):
        spread = statistics.stdev(arm.accuracies)
        minutes = statistics.fmean(map(_minutes, arm.records))
        costs.append((minutes, spread**2))
        ends.append(len(arm.records) - 1)
        cells = title, arm.accuracy.n, _interval(arm), f"{spread:.3f}", f"{minutes:.2f}", f"{minutes * spread**2:.3f}"
        rows.append(f"| {' | '.join(map(str, cells))} |")
    (fast, fast_variance), (plain, plain_variance) = costs
    time, variance = plain / fast, plain_variance / fast_variance
    low, high = variance / f.ppf(0.975, ends[1], ends[0]), variance / f.ppf(0.025, ends[1], ends[0])
    rows += [
        "",
        f"The second over the first: CPU time {time:.2f}, variance {variance:.2f} [{low:.2f}, {high:.2f}] (95 %, F), "
        f"cost to a verdict {time * variance:.2f} [{time * low:.2f}, {time * high:.2f}].",
    ]
    return "\n".join(rows) + "\n"


def curves(name: str) -> str:
    """Training accuracy after each epoch of every run of a study, as SVG."""
    rows = []
    for title, arm in _arms(name):
        for record in arm.records:
            run = " ".join(filter(None, [title, f"seed {record.spec['seed']}"]))
            for point in record.curves:
                at = point["train_accuracy"]
                rows.append({"arm": run, "split": "train", "epoch": point["epoch"], "mean": at, "low": at, "high": at})
    return static(lines(rows, list(dict.fromkeys(row["arm"] for row in rows)), "training accuracy (%)"))[0]


def _arms(name: str) -> list[tuple[str, Arm]]:
    """The arms of a study, with what tells their cells apart."""
    study = Study.load(ROOT / "studies" / f"{name}.yaml")
    found = compare(study, Store(ROOT / "results" / name))
    if found.missing:
        raise SystemExit(f"results/{name} lacks {found.missing} runs of studies/{name}.yaml")
    return [(cell.name if len(found.cells) > 1 else "", arm) for cell in found.cells for arm in cell.arms]


def _interval(arm: Arm) -> str:
    found = arm.accuracy
    return f"{found.mean:.2f} % [{found.low:.2f}, {found.high:.2f}]"


def _minutes(record: RunRecord) -> float:
    return sum(point["cpu_seconds"] for point in record.curves) / 60


def _found() -> Any:
    return json.loads(FILE.read_text())


def _line(row: dict[str, Any]) -> str:
    goal = f"{'>=' if row['more'] else '<='} {row['wanted']:g}" if row["wanted"] is not None else ""
    mark = row["outcome"].replace("missed", "**missed**")
    spread = f"{row['low']:.3f} to {row['high']:.3f}" if row["rounds"] > 1 else "exact"
    return f"| {row['goal']} | {row['what']} | {goal} | {row['value']:.3f} | {spread} | {row['rounds']} | {mark} |"
