"""The classic table again: published gains of one run a cell beside ours, from the records of the reference studies."""

from collections.abc import Iterator, Sequence

from claims import Claim, load

from attnbench.analysis.costs import costs
from attnbench.catalogue.refs import parse
from attnbench.catalogue.registry import DATASETS
from attnbench.report.text import signed, spread
from attnbench.spec.study import Study
from studies import REFERENCE, ROOT, comparison, trained

PIPELINE = "../run_experiment.py"
"""The address, in claims.yaml, of what the pipeline that this project grew out of published."""


def reference() -> str:
    """One row for each mechanism on each data set."""
    lines = ["| data set | | published | ours | 95 % interval | seeds | verdict | training time |"]
    lines += ["|:--|:--|--:|--:|:--|--:|:--|--:|"]
    published = [claim for claim in load() if claim.url == PIPELINE]
    for name in REFERENCE:
        dataset = Study.load(ROOT / "studies" / f"{name}.yaml").base["dataset"]
        lines += _rows(name, DATASETS.resolve(dataset).card.title, [c for c in published if c.data == dataset])
    return "\n".join(lines) + "\n"


def _rows(name: str, title: str, published: Sequence[Claim]) -> Iterator[str]:
    plain = published[0].plain
    if name not in trained():
        gains = ", ".join(f"{parse(claim.mechanism).name} {signed(claim.gain)}" for claim in published)
        yield f"| {title} | none | {plain:.2f} | not run yet ({gains} published) | | | | |"
        return
    (found,) = comparison(name).cells
    none, by_arm = found.arms[0], {cost.arm: cost for cost in costs(found)}
    yield f"| {title} | none | {plain:.2f} | {none.score.mean:.2f} | {spread(none.score)} | {len(none.seeds)} | | |"
    for claim in published:
        arm = found.arm(parse(claim.mechanism).name)
        assert arm.contrast is not None
        gain, verdict, time = arm.contrast.difference, arm.contrast.verdict.kind, by_arm[arm.name].seconds_ratio.mean
        ours = f"{signed(gain.mean)} | {spread(gain, plus=True)} | {len(arm.seeds)} | {verdict} | x{time:.2f}"
        yield f"| | {arm.name} | {signed(claim.gain)} | {ours} |"
