"""The classic table again: published gains of one run a cell beside ours, from the records of the reference studies."""

from collections.abc import Iterator

from attnbench.analysis.cells import Cell
from attnbench.analysis.costs import costs
from attnbench.report.text import signed, spread
from studies import RESULTS, comparison

PUBLISHED = {
    "cifar10": ("CIFAR-10", 86.97, {"se": 87.01, "cbam": 85.89}),
    "cifar100": ("CIFAR-100", 57.26, {"se": 59.28, "cbam": 58.07}),
    "flowers102": ("Oxford 102 Flowers", 28.13, {"se": 37.53, "cbam": 38.74}),
    "eurosat": ("EuroSAT", 97.41, {"se": 97.61, "cbam": 97.37}),
}
"""Study `reference-NAME` -> data set, and what the pipeline that this project grew out of published: one run a cell."""


def cell(name: str) -> Cell | None:
    """What a reference study found; None before it has run."""
    if not (RESULTS / f"reference-{name}").is_dir():
        return None
    (found,) = comparison(f"reference-{name}").cells
    return found


def reference() -> str:
    """One row for each mechanism on each data set."""
    lines = ["| data set | | published | ours | 95 % interval | seeds | verdict | training time |"]
    lines += ["|:--|:--|--:|--:|:--|--:|:--|--:|"]
    for name, (title, plain, scores) in PUBLISHED.items():
        lines += _rows(name, title, plain, scores)
    return "\n".join(lines) + "\n"


def _rows(name: str, title: str, plain: float, scores: dict[str, float]) -> Iterator[str]:
    found = cell(name)
    if found is None:
        gains = [f"{arm} {signed(score - plain)}" for arm, score in scores.items()]
        yield f"| {title} | none | {plain:.2f} | not run yet ({', '.join(gains)} published) | | | | |"
        return
    none, by_arm = found.arms[0], {cost.arm: cost for cost in costs(found)}
    seeds = len(none.seeds)
    yield f"| {title} | none | {plain:.2f} | {none.score.mean:.2f} | {spread(none.score)} | {seeds} | | |"
    for text, score in scores.items():
        arm = found.arm(text)
        assert arm.contrast is not None
        gain, verdict, time = arm.contrast.difference, arm.contrast.verdict.kind, by_arm[arm.name].seconds_ratio.mean
        ours = f"{signed(gain.mean)} | {spread(gain, plus=True)} | {len(arm.seeds)} | {verdict} | x{time:.2f}"
        yield f"| | {text} | {signed(score - plain)} | {ours} |"
