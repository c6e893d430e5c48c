"""The classic table again: published gains of one run a cell beside ours, from the records of the reference studies."""

from collections.abc import Iterator, Sequence
from statistics import mean

from claims import Claim, load

from attnbench.analysis.costs import costs
from attnbench.catalogue.refs import parse
from attnbench.catalogue.registry import DATASETS
from attnbench.report.markup import markdown_table
from attnbench.report.text import kind, signed, spread
from attnbench.spec.study import Study
from studies import REFERENCE, RESULTS, ROOT, begun, comparison, trained

PIPELINE = "../run_experiment.py"
"""The address, in claims.yaml, of what the pipeline that this project grew out of published."""


def reference() -> str:
    """One row for each mechanism on each data set."""
    heads = ["data set", "", "published", "ours", "95 % interval", "seeds", "verdict", "training time"]
    rows: list[list[object]] = []
    published = [claim for claim in load() if claim.url == PIPELINE]
    for name in REFERENCE:
        dataset = Study.load(ROOT / "studies" / f"{name}.yaml").base["dataset"]
        rows += _rows(name, DATASETS.resolve(dataset).card.title, [c for c in published if c.data == dataset])
    return "\n".join(markdown_table(heads, rows, "llrrlrlr")) + "\n"


def spent(name: str) -> str:
    """What a study took."""
    records = [record for cell in comparison(name).cells for arm in cell.arms for record in arm.records]
    hours = sum(record.train_seconds for record in records) / 3600
    return f"{len(records)} runs, {hours:.1f} CPU hours of training.\n"


OLD_GAINS = ("gpu-flowers-classic", "gpu-flowers-better", "flowers-classic", "reference-flowers102", "flowers-long")
"""Regimes of Oxford 102 Flowers, the one in which the gains were published first."""


def regimes() -> str:
    """What SE and CBAM gain on the flowers in each regime, with the accuracies on training and test images."""
    heads = ["regime", "arm", "seeds", "training", "test", "to none", "95 % interval", "verdict"]
    rows: list[list[object]] = []
    for name in OLD_GAINS:
        title = f"[{name}](../studies/{name}.yaml)"
        if not (RESULTS / name).is_dir():
            rows.append([title, "not run yet", *[""] * 6])
            continue
        (found,) = comparison(name).cells
        for arm in sorted(found.arms, key=lambda arm: ("none", "se", "cbam").index(parse(arm.name).name)):
            trained_to = mean(record.curves[-1]["train_accuracy"] for record in arm.records)
            gain = ["", "", ""]
            if arm.contrast:
                found_gain = arm.contrast.difference
                gain = [signed(found_gain.mean), spread(found_gain, plus=True), kind(arm.contrast.verdict)]
            named = [title if arm is found.arms[0] else "", parse(arm.name).name]
            rows.append([*named, len(arm.seeds), f"{trained_to:.1f}", f"{arm.score.mean:.2f}", *gain])
    return "\n".join(markdown_table(heads, rows, "llrrrrll")) + "\n"


def _rows(name: str, title: str, published: Sequence[Claim]) -> Iterator[list[object]]:
    plain = published[0].plain
    if name not in trained():
        gains = ", ".join(f"{parse(claim.mechanism).name} {signed(claim.gain)}" for claim in published)
        yield [title, "none", f"{plain:.2f}", f"{begun(name)} ({gains} published)", *[""] * 4]
        return
    (found,) = comparison(name).cells
    none, by_arm = found.arms[0], {cost.arm: cost for cost in costs(found)}
    yield [title, "none", f"{plain:.2f}", f"{none.score.mean:.2f}", spread(none.score), len(none.seeds), "", ""]
    for claim in published:
        arm = found.arm(parse(claim.mechanism).name)
        assert arm.contrast is not None
        gain, verdict, time = arm.contrast.difference, arm.contrast.verdict.kind, by_arm[arm.name].seconds_ratio.mean
        ours = [signed(gain.mean), spread(gain, plus=True), len(arm.seeds), verdict, f"x{time:.2f}"]
        yield ["", arm.name, signed(claim.gain), *ours]
