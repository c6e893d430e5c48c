"""The classic table again: published gains of one run a cell beside ours, from the records of the reference studies."""

from collections.abc import Iterator, Sequence
from statistics import mean

from claims import Claim, load

from attnbench.analysis.costs import costs
from attnbench.catalogue.refs import parse
from attnbench.catalogue.registry import DATASETS
from attnbench.report.text import kind, signed, spread
from attnbench.spec.study import Study
from studies import REFERENCE, RESULTS, ROOT, comparison, trained

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


def spent(name: str) -> str:
    """What a study took."""
    records = [record for cell in comparison(name).cells for arm in cell.arms for record in arm.records]
    hours = sum(record.train_seconds for record in records) / 3600
    return f"{len(records)} runs, {hours:.1f} CPU hours of training.\n"


OLD_GAINS = ("gpu-flowers-classic", "gpu-flowers-better", "flowers-classic", "reference-flowers102", "flowers-long")
"""Regimes of Oxford 102 Flowers, the one in which the gains were published first."""


def regimes() -> str:
    """What SE and CBAM gain on the flowers in each regime, with the accuracies on training and test images."""
    head = "| regime | arm | seeds | training | test | to none | 95 % interval | verdict |"
    lines = [head, "|:--|:--|--:|--:|--:|--:|:--|:--|"]
    for name in OLD_GAINS:
        title = f"[{name}](../studies/{name}.yaml)"
        if not (RESULTS / name).is_dir():
            lines.append(f"| {title} | not run yet | | | | | | |")
            continue
        (found,) = comparison(name).cells
        for arm in sorted(found.arms, key=lambda arm: ("none", "se", "cbam").index(parse(arm.name).name)):
            trained_to = mean(record.curves[-1]["train_accuracy"] for record in arm.records)
            gain = (
                arm.contrast
                and f"{signed(arm.contrast.difference.mean)} | {spread(arm.contrast.difference, plus=True)}"
            )
            verdict = f"{gain} | {kind(arm.contrast.verdict)}" if arm.contrast else "| |"
            row = f"{len(arm.seeds)} | {trained_to:.1f} | {arm.score.mean:.2f} | {verdict}"
            lines.append(f"| {title if arm is found.arms[0] else ''} | {parse(arm.name).name} | {row} |")
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
