"""What the package carries of the studies: src/attnbench/catalogue/findings.json, for `attnbench advise`."""

import json
from collections.abc import Iterator, Mapping

from attnbench.analysis.cells import Cell
from attnbench.analysis.costs import costs
from attnbench.analysis.findings import FILE, Finding, Regime, as_line
from attnbench.execution.worker import images
from attnbench.spec.run import RunSpec
from studies import CHOICES, ROOT, chosen, comparison, trained

TARGET = ROOT / "src" / "attnbench" / "catalogue" / FILE


def text() -> str:
    """The file, one finding a line."""
    found = [json.dumps(as_line(each), sort_keys=True) for each in _findings()]
    return "[\n" + ",\n".join(found) + "\n]\n"


def _findings() -> Iterator[Finding]:
    for name in CHOICES:
        choice = chosen(name)
        latencies = {choice.cell.arm(arm).name: choice.ratios[arm].get("latency") for arm in choice.confirmed}
        yield from _of(name, choice.cell, latencies)
    for name in trained():
        for cell in comparison(name).cells:
            yield from _of(name, cell, {})


def _of(study: str, cell: Cell, latencies: Mapping[str, float | None]) -> Iterator[Finding]:
    record = cell.arms[0].records[0]
    spec, by_arm = RunSpec.of(record.spec), {cost.arm: cost for cost in costs(cell)}
    counted = images(spec, "")
    assert counted is not None
    regime = Regime(
        study, record.spec["dataset"], record.spec["backbone"], record.recipe, spec.epochs, round(counted[0]),
        record.input["image_size"], cell.arms[0].name, cell.plan.margin,
    )  # fmt: skip
    for arm in cell.arms:
        if arm.contrast is not None and not arm.control:
            gain, cost = arm.contrast.difference, by_arm[arm.name]
            yield Finding(
                regime, arm.name, gain.n, gain.n_baseline, round(gain.mean, 4), round(gain.low, 4),
                round(gain.high, 4), arm.contrast.verdict.kind, round(cost.parameters_ratio, 4),
                round(cost.seconds_ratio.mean, 3), _rounded(latencies.get(arm.name)),
            )  # fmt: skip


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)
