"""Which mechanisms keep within the limits of a contest: measured on its network before anything is trained."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.examine.bench import BenchSettings
from attnbench.examine.profiling import begun, profile, profile_row, write_csv
from attnbench.spec.contest import Contest, Limit
from attnbench.spec.run import Runtime
from attnbench.training.numerics import choose_device

COLUMNS: Mapping[Limit, str] = {
    "latency": "forward_ratio",
    "training": "training_ratio",
    "parameters": "parameters_ratio",
    "macs": "macs_ratio",
    "memory": "peak_memory_ratio",
}
"""Limit -> the column of a profile that it is about: a forward pass, a step of training, counts, bytes of a step."""
ROUNDS = 9


@dataclass(frozen=True)
class Within:
    """A mechanism beside the limits."""

    attention: str
    ratios: Mapping[str, float]
    """Of everything that was measured, to the plain network's; empty where it cannot be built."""
    out: str = ""
    """Why it is left out; empty where it is not."""


def within(contest: Contest, runtime: Runtime, file: Path) -> Iterator[Within]:
    """Measure a contest's mechanisms one after the other; what `file` holds of the same bench is not measured again."""
    bench, timed = _bench(contest, runtime), [name for name in ("latency", "training") if name in contest.limits]
    passes = [COLUMNS[name].removesuffix("_ratio") for name in timed]
    known = {row["attention"]: row for row in begun(file, contest.arms, bench, ROUNDS)}
    known = {name: row for name, row in known.items() if all(row.get(f"{each}_ratio") for each in passes)}
    for attention in contest.arms:
        if attention not in known:
            try:
                (measured,) = profile([attention], bench, ROUNDS, passes)
            except AttnbenchError as problem:
                yield Within(attention, {}, str(problem))
                continue
            known[attention] = profile_row(measured, bench, ROUNDS)
            write_csv(list(known.values()), file)
        ratios: dict[str, float] = {
            limit: float(ratio) for limit, name in COLUMNS.items() if (ratio := known[attention].get(name))
        }
        over = [
            f"{name} x{ratios[name]:.2f}, the limit is x{most:g}"
            for name, most in contest.limits.items()
            if ratios[name] > most
        ]
        yield Within(attention, ratios, "; ".join(over))


def _bench(contest: Contest, runtime: Runtime) -> BenchSettings:
    """The network, the batch and the device of the contest's runs."""
    plain = contest.full_run(contest.baseline_text)
    arm = contest.full_run(contest.arms[0])
    return BenchSettings(
        backbone=plain.backbone,
        batch_size=plain.batch_size,
        image_size=plain.resolved.image_size,
        classes=plain.resolved.dataset.card.classes or 10,
        site=arm.site,
        threads=runtime.thread_count,
        device=choose_device(runtime).type,
    )
