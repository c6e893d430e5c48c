"""What the docs show of results/speed/speed.json, which `make bench` writes, and of recipes: searches and studies."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import f

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.sample import Sample
from attnbench.report import evidence
from attnbench.report.charts import lines, static
from attnbench.report.markup import markdown_table
from attnbench.report.text import spread
from attnbench.store.runs import RunRecord
from studies import ROOT, comparison, earlier

FILE = ROOT / "results" / "speed" / "speed.json"


def speed() -> str:
    """Each goal with its figure, and what it was measured on."""
    found = _found()
    packages = ", ".join(f"{name} {found['packages'][name]}" for name in ("torch", "torchvision", "numpy"))
    on = f"Measured on {found['date']}: {found['cpu']}, {found['cores']} cores, Python {found['python']}, {packages}."
    heads = ["", "measured", "goal", "median", "quartiles", "rounds", ""]
    return "\n".join([on, "", *markdown_table(heads, map(_row, found["rows"]), "llrrlrl")]) + "\n"


def where() -> str:
    """Milliseconds of a step by kind of operation."""
    rows = _found()["where"]
    kinds = [name for name in rows[0] if name != "what"]
    cells = []
    for row in rows:
        values = [row[kind] for kind in kinds]
        cells.append([row["what"], *(f"{value:.1f}" for value in (*values, sum(values)))])
    return "\n".join(markdown_table(["ResNet-20, batch 32", *kinds, "all"], cells)) + "\n"


def gpu(name: str) -> str:
    """What `make gpu` found on a card: results/gpu/NAME.json."""
    found = json.loads((ROOT / "results" / "gpu" / f"{name}.json").read_text())
    device = found["device"]
    on = f"{device['name']}, {found['date']}, torch {device['torch']}, Python {found['python']}: {found['tests']}."
    cells = []
    for row in (each for each in found["figures"] if each["kind"] == "row"):
        wanted = "" if row["wanted"] is None else f"{'>=' if row['more'] else '<='} {row['wanted']:g}"
        middle, low, high = (f"{row[key]:,.{0 if row['value'] >= 100 else 2}f}" for key in ("value", "low", "high"))
        quartiles = f"{low} to {high}" if row["rounds"] > 1 else ""
        cells.append([row["goal"], row["what"], wanted, middle, quartiles, row["outcome"]])
    failed = {
        f"{each['what']}: {each['trace'].strip().splitlines()[-1]}"
        for each in found["figures"]
        if each["kind"] == "failed"
    }
    lines = markdown_table(["goal", "what", "wanted", "median", "quartiles", ""], cells, "llrrll")
    return "\n".join([on, "", *lines, "", *(f"* failed: {what}" for what in sorted(failed))]) + "\n"


def growth(name: str) -> str:
    """What a report costs for so many runs (results/speed/NAME.jsonl), and computed for 10,000."""
    rows = [json.loads(line) for line in (ROOT / "results" / "speed" / f"{name}.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: row["runs"])
    names = ("runs", "seconds", "cpu_seconds", "mebibytes", "page_megabytes")
    cells = [[*(f"{row[name]:,}" for name in names), row["date"]] for row in rows]
    few, many = rows[-2], rows[-1]
    for_one = (many["cpu_seconds"] - few["cpu_seconds"]) / (many["runs"] - few["runs"])
    computed = many["cpu_seconds"] + for_one * (10_000 - many["runs"])
    cells.append(["10,000", "", f"{computed:.0f}", "", "", "computed from the last two rows"])
    return "\n".join(markdown_table(["runs", "seconds", "CPU seconds", "MiB", "page, MB", ""], cells, "rrrrrl")) + "\n"


def listing(name: str) -> str:
    """What it takes to list records: the last line of results/speed/NAME.jsonl."""
    found = json.loads((ROOT / "results" / "speed" / f"{name}.jsonl").read_text().splitlines()[-1])
    count, seconds = found["records"], found["cpu_seconds"]
    return f"`attnbench store list` of {count:,} records: {seconds} CPU seconds ({found['date']}).\n"


def search(name: str) -> str:
    """What was tried on validation images, in the order in which it was."""
    cells = []
    for text in (ROOT / "results" / "search" / f"{name}.jsonl").read_text().splitlines():
        one = json.loads(text)
        fields = ", ".join(f"{field} {value}" for field, value in one["given"].items())
        found = [f"{one[name]:.2f} %" for name in ("accuracy", "train_accuracy") if name in one]
        cells.append([fields, f"{one.get('cpu_seconds', 0):.0f}", *(found or [one["diverged"], ""])])
    return "\n".join(markdown_table(["tried", "CPU seconds", "validation", "training"], cells)) + "\n"


def target(name: str) -> str:
    """Every run of a study: what it reached, and the CPU time of its training."""
    cells = []
    ((_, arm),) = _arms(name)
    for record in arm.records:
        train, seed = record.curves[-1]["train_accuracy"], record.spec["seed"]
        minutes = "resumed" if record.resumed else f"{_minutes([record]):.1f}"
        cells.append([seed, f"{record.accuracy:.2f} %", f"{train:.2f} %", minutes])
    cells.append([f"**mean of {arm.score.n}**", f"**{_accuracy(arm)}**", "", f"**{_minutes(arm.records):.1f}**"])
    heads = ["seed", "test accuracy", "training accuracy, last epoch", "CPU minutes"]
    return earlier(name) + "\n".join(markdown_table(heads, cells, "rrrr")) + "\n"


def verdict(name: str) -> str:
    """CPU time, spread, and their product, of a study's recipes; each after the first as what it saves against it."""
    heads = ["recipe", "runs", "test accuracy", "standard deviation", "CPU minutes a run", "CPU minutes x variance"]
    rows, plain = [], None
    for title, arm in _arms(name):
        cost = _Cost.of(arm)
        plain = plain or cost
        cells = arm.score.n, _accuracy(arm), f"{cost.variance**0.5:.3f}", f"{cost.minutes:.2f}"
        product = f"{cost.minutes * cost.variance:.3f}"
        rows.append([title, *cells, product, plain.over(cost)])
    return earlier(name) + "\n".join(markdown_table([*heads, "saves"], rows, "lrrrrrl")) + "\n"


@dataclass(frozen=True)
class _Cost:
    minutes: float
    variance: float
    runs: int

    @classmethod
    def of(cls, arm: Arm) -> "_Cost":
        return cls(_minutes(arm.records), statistics.variance(arm.values), arm.score.n)

    def over(self, other: "_Cost") -> str:
        """How often the other's cost to a verdict this one is; the interval is the variances' (F)."""
        if self is other:
            return ""
        time, variance = self.minutes / other.minutes, self.variance / other.variance
        ends = [variance / f.ppf(level, self.runs - 1, other.runs - 1) for level in (0.975, 0.025)]
        return (
            f"{time:.2f} (time) x {variance:.2f} (variance) = **{time * variance:.2f}** "
            f"[{time * ends[0]:.2f}, {time * ends[1]:.2f}]"
        )


def curves(name: str) -> dict[str, str]:
    """Training accuracy after each epoch of every run of a study: an SVG for each of its recipes, by file name."""
    cells = _cells(name)
    ends = [f"-{number}" for number in range(1, len(cells) + 1)] if len(cells) > 1 else [""]
    return {f"curves-{name}{end}.svg": _curves(cell) for end, cell in zip(ends, cells, strict=True)}


def _curves(cell: Cell) -> str:
    """A cell with every run taken for an arm, as the report draws it."""
    runs = [(arm, record) for arm in cell.arms for record in arm.records]
    seeds = tuple(replace(arm, sample=_seed(record), records=(record,)) for arm, record in runs)
    rows = [row for row in evidence.curves(replace(cell, arms=seeds)) if row["curve"] == "accuracy"]
    return static(lines(rows, [arm.name for arm in seeds], "training accuracy (%)"))[0]


def _seed(record: RunRecord) -> Sample:
    """A run as an arm."""
    seed = record.spec["seed"]
    return Sample(f"seed {seed}", (seed,), np.array([record.accuracy]))


def _arms(name: str) -> list[tuple[str, Arm]]:
    """The arms of a study, with what tells their recipes apart."""
    return [(_recipe(cell.name, arm), arm) for cell in _cells(name) for arm in cell.arms]


def _cells(name: str) -> tuple[Cell, ...]:
    found = comparison(name)
    if found.missing:
        raise SystemExit(f"results/{name} lacks {found.missing} runs of studies/{name}.yaml")
    return found.cells


def _recipe(title: str, arm: Arm) -> str:
    form = arm.records[0].canonical
    return title.removeprefix(f"{form['dataset']}, {form['backbone']}").removeprefix(", ")


def _accuracy(arm: Arm) -> str:
    return f"{arm.score.mean:.2f} % {spread(arm.score)}"


def _minutes(records: Sequence[RunRecord]) -> float:
    """CPU minutes of the epochs, the mean of the runs that nothing interrupted."""
    whole = [record.curves for record in records if not record.resumed]
    return statistics.fmean(sum(point["cpu_seconds"] for point in curves) / 60 for curves in whole)


def _found() -> Any:
    return json.loads(FILE.read_text())


def _row(row: dict[str, Any]) -> list[Any]:
    goal = f"{'>=' if row['more'] else '<='} {row['wanted']:g}" if row["wanted"] is not None else ""
    mark = row["outcome"].replace("missed", "**missed**")
    spread = f"{row['low']:.3f} to {row['high']:.3f}" if row["rounds"] > 1 else "exact"
    return [row["goal"], row["what"], goal, f"{row['value']:.3f}", spread, row["rounds"], mark]
