"""What mechanisms cost on a backbone: counted, and measured side by side with the plain network."""

import contextlib
import csv
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attnbench import devices
from attnbench.catalogue.registry import ATTENTION
from attnbench.console import first_line
from attnbench.errors import AttnbenchError, BadReference, OutOfMemory, writing
from attnbench.examine.bench import BenchSettings
from attnbench.files import replacing
from attnbench.networks.cost import activation_bytes, cost, peak_memory
from attnbench.networks.network import network
from attnbench.training.numerics import keep_pages

TIMED = ("forward", "training")
FEWEST_ROUNDS = 6
"""With fewer no 95 % interval of a median exists: it would have to reach beyond the smallest and the largest."""


@dataclass(frozen=True)
class Timing:
    """Seconds of the median round, and its ratio to the plain network's time in the same round."""

    seconds: float
    ratio: float
    low: float
    high: float
    """95 % interval of the median ratio, free of assumptions on its distribution."""


@dataclass(frozen=True)
class Counts:
    """What is counted, the same on every run."""

    parameters: int
    macs: int
    """Multiply-accumulates of one image's forward pass."""
    activations: int
    """Bytes kept for the backward pass of one batch, parameters that it needs among them."""
    peak_memory: int
    """Bytes allocated at most during one training step beyond weights, gradients and images."""


@dataclass(frozen=True)
class Profile:
    """What one mechanism costs on a bench; ratios are to the plain network."""

    attention: str
    counts: Counts
    ratios: dict[str, float]
    """Of the counts."""
    times: dict[str, Timing]
    """Of a `forward` pass and of a `training` step, as far as they were asked for."""


def profile(
    attentions: Sequence[str],
    bench: BenchSettings,
    rounds: int = 9,
    timed: Sequence[str] = TIMED,
    left_out: Callable[[str, str], None] | None = None,
) -> Iterator[Profile]:
    """Measure mechanisms one after the other, each interleaved with the plain network: none, it, none, it ...

    Args:
        timed: what is measured beside what is counted.
        left_out: what is told of a mechanism that finds no place in the backbone, or no memory, and why; None
            refuses it.

    Raises:
        AttnbenchError: fewer rounds than an interval needs.
        BadReference: an unknown name, option or site.
        OutOfMemory: a step takes more memory than there is.
    """
    if rounds < FEWEST_ROUNDS:
        raise AttnbenchError(f"rounds={rounds}: a 95 % interval of a median needs at least {FEWEST_ROUNDS}")
    torch.set_num_threads(bench.threads)
    keep_pages()  # as a run does
    plain = bench_network(bench, "none")
    with _enough_memory("none", bench):
        at = _counted(plain, bench)
    for attention in attentions:
        try:
            with _enough_memory(attention, bench):
                model = bench_network(bench, attention)
                counts = _counted(model, bench)
                times = {name: _timed(_RUNS[name], plain, model, bench, rounds) for name in timed}
        except (BadReference, OutOfMemory) as problem:
            if left_out is None:
                raise
            left_out(attention, str(problem))
            continue
        ratios = {name: value / vars(at)[name] for name, value in vars(counts).items()}
        yield Profile(attention, counts, ratios, times)


@contextlib.contextmanager
def _enough_memory(attention: str, bench: BenchSettings) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if not devices.out_of_memory(problem):
            raise
        step = f"a step of {attention} with batch size {bench.batch_size} at {bench.side} px"
        raise OutOfMemory(f"{step} takes more memory than there is: {first_line(problem)}") from None


def interleaved(
    things: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each thing in every round, the first round not counted; the order changes from round to round."""
    taken: dict[str, list[float]] = {name: [] for name in things}
    for number in range(rounds + 1):
        order = list(things.items())
        for name, thing in order if number % 2 else reversed(order):
            began = clock()
            thing()
            if number:
                taken[name].append(clock() - began)
    return taken


def bench_network(bench: BenchSettings, attention: str) -> nn.Module:
    """The network with a mechanism in it, as it is trained."""
    model = network(bench.backbone, attention, bench.classes, 0, 3, bench.side, bench.site)
    model.to(torch.device(bench.device))
    return model.to(memory_format=torch.channels_last)


def profile_row(each: Profile, bench: BenchSettings, rounds: int) -> dict[str, Any]:
    """A profile as a flat row: times in seconds, memory in bytes, and what it was measured on."""
    code = ATTENTION.resolve(each.attention).identity
    found: dict[str, Any] = {"attention": each.attention, "code": code, **vars(each.counts)}
    found |= {f"{name}_ratio": value for name, value in each.ratios.items()}
    for name, timing in each.times.items():
        found |= {f"{name}_{key}": value for key, value in vars(timing).items()}
    return {**found, **_about(bench, rounds)}


def begun(file: Path, attentions: Sequence[str], bench: BenchSettings, rounds: int) -> list[dict[str, Any]]:
    """The rows that an interrupted profile left, where it measured the same on the same bench; else none."""
    try:
        with file.open(newline="", encoding="utf-8") as source:
            rows: list[dict[str, Any]] = list(csv.DictReader(source))
    except (OSError, ValueError):
        return []
    wanted = {name: str(value) for name, value in _about(bench, rounds).items()}
    same = all(row.get(name) == value for row in rows for name, value in wanted.items())
    known = [row for row in rows if row["attention"] in attentions] if same else []
    return [row for row in known if row.get("code") == str(ATTENTION.resolve(row["attention"]).identity)]


def _about(bench: BenchSettings, rounds: int) -> dict[str, Any]:
    """What a profile is measured on, every setting of it: one left out would not be compared."""
    about = {**dataclasses.asdict(bench), "image_size": bench.side, "rounds": rounds, "torch": str(torch.__version__)}
    return {name: "" if value is None else value for name, value in about.items()}


def write_csv(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """One row a mechanism.

    Raises:
        StoreProblem: the file cannot be written.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as out:
            writer = csv.DictWriter(out, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows
            )


def synthetic_batch(bench: BenchSettings) -> tuple[Tensor, Tensor]:
    """Images and labels, made up: time does not depend on what they show."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(bench.batch_size, 3, bench.side, bench.side, generator=draws)
    labels = torch.randint(bench.classes, (bench.batch_size,), generator=draws)
    return images.to(bench.device).contiguous(memory_format=torch.channels_last), labels.to(bench.device)


def _counted(model: nn.Module, bench: BenchSettings) -> Counts:
    images, labels = synthetic_batch(bench)

    def loss() -> Tensor:
        return cross_entropy(model(images), labels)

    counts = cost(model.train(), (3, bench.side, bench.side))
    return Counts(**counts, activations=activation_bytes(loss), peak_memory=peak_memory(loss))


def _timed(
    run: Callable[[nn.Module, BenchSettings], Callable[[], None]],
    plain: nn.Module,
    model: nn.Module,
    bench: BenchSettings,
    rounds: int,
) -> Timing:
    """Both networks in turn."""
    both = {"its": run(plain, bench), "mine": run(model, bench)}
    taken = interleaved({name: _finished(each, bench.device) for name, each in both.items()}, rounds)
    ratios = [mine / its for its, mine in zip(taken["its"], taken["mine"], strict=True)]
    return Timing(statistics.median(taken["mine"]), statistics.median(ratios), *quantile_interval(ratios))


def _forward(model: nn.Module, bench: BenchSettings) -> Callable[[], None]:
    images, _ = synthetic_batch(bench)

    def once() -> None:
        with torch.inference_mode():
            model.eval()(images)

    return once


def _step(model: nn.Module, bench: BenchSettings) -> Callable[[], None]:
    """Forward, backward and update: what a step of training does."""
    images, labels = synthetic_batch(bench)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)

    def once() -> None:
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model.train()(images), labels).backward()
        optimizer.step()

    return once


_RUNS = {"forward": _forward, "training": _step}


def _finished(run: Callable[[], None], device: str) -> Callable[[], None]:
    """The same, waiting until the device has done it."""

    def once() -> None:
        run()
        devices.wait(torch.device(device))

    return once


def quantile_interval(values: Sequence[float], share: float = 0.5) -> tuple[float, float]:
    """From one order statistic to another, so that the quantile lies between with 95 % at least, whatever the law.

    An end is infinite, or nan, where so few values have none.
    """
    from scipy.stats import quantile_test

    found = quantile_test(values, p=share).confidence_interval(0.95)
    return float(found.low), float(found.high)
