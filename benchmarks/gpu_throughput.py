"""G1, G2, G3 and G7: training steps on a CUDA device, ours beside others'; figures are given as they are found.

A figure is a `Row`; what failed inside a function is a `Failed`, what was left out a `Said`, and the function goes on.
"""

import functools
import importlib.util
import site
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from baselines import Step
from gpu_steps import Ahead, Bench, clock, our_epoch, plain_epoch, textbook_net, timm_epoch, timm_net
from paired import Paired, Row, spread

from attnbench.data.batches import Batches

NET18 = 'resnet18(stem="cifar")'
SMALL, LARGE = Bench(NET18, 128), Bench(NET18, 512, steps=8)
NET50 = Bench('torchvision(name="resnet50")', 128, side=224, steps=3)
NET20 = Bench("resnet20", 128, steps=40)
COSTS = {"se": 1.05, "eca": 1.05, "cbam": 1.15}
"""What a step may cost with a mechanism, as a multiple of none."""
TEXTBOOK = ("se", "cbam")
"""Mechanisms that a plain loop and timm have, too."""
BUILDING = 0.7
"""Share of a measurement's time after which nothing more is built."""
ROOT = Path(__file__).resolve().parent.parent
Build = Callable[[], Step]


@dataclass(frozen=True)
class Failed:
    """Something that could not be measured, and why."""

    what: str
    trace: str


def failed(what: str) -> Failed:
    """What could not be measured because of the error that is being handled; of paths only what lies below ours."""
    trace = traceback.format_exc()
    for folder in (ROOT, *map(Path, site.getsitepackages())):
        trace = trace.replace(f"{folder}/", "")
    return Failed(what, trace)


class Said(NamedTuple):
    """Something that was not measured, and why that is no failure."""

    what: str


Found = Row | Failed | Said


class Quotient(NamedTuple):
    """A figure that is the seconds of one thing over those of another."""

    goal: str
    what: str
    wanted: float | None
    more: bool
    one: str
    other: str


def in_turn(measures: Sequence[tuple[Callable[[float], Iterator[Found]], float]], seconds: float) -> Iterator[Found]:
    """Several measurements one after the other, each for its share of the time that is left."""
    late, shares = time.perf_counter() + seconds, [share for _, share in measures]
    for number, (measure, share) in enumerate(measures):
        yield from measure((late - time.perf_counter()) * share / sum(shares[number:]))


def measured(things: Mapping[str, Build], seconds: float, bench: Bench) -> Iterator[Failed | Said | Paired]:
    """Build and try each thing, then take those that work in turn, as often as the time allows (3 to 11 rounds).

    What is not begun when `BUILDING` of the time is over is left out.
    """
    built: dict[str, Step] = {}
    began, once = time.perf_counter(), 0.0
    for name, build in things.items():
        if time.perf_counter() - began >= BUILDING * seconds:
            yield Said(f"{bench.title}: {name} (no time was left)")
            continue
        try:
            step = build()
            step()
            since = clock(bench.device)
            step()
            once += clock(bench.device) - since
            built[name] = step
            print(f"{name}: built by {since - began:.1f} s", flush=True)
        except Exception:
            yield failed(f"{bench.title}: {name}")
    if built:
        left = seconds - (time.perf_counter() - began)
        rounds = max(3, min(11, int(left / max(once, 1e-9)) - 1))
        try:
            taken = Paired(built, rounds, lambda: clock(bench.device))
        except Exception:
            yield failed(f"{bench.title}: {', '.join(built)} in turn")
        else:
            yield taken


def compared(
    things: Mapping[str, Build], seconds: float, bench: Bench, rows: Callable[[Paired], Iterator[Found]]
) -> Iterator[Found]:
    """Measure things: the rows that come of their seconds, and what failed or was left out."""
    for found in measured(things, seconds, bench):
        if isinstance(found, Paired):
            yield from rows(found)
        else:
            yield found


def throughput(goal: str, bench: Bench, paired: Paired) -> Iterator[Row]:
    """Images a second of each thing."""
    for name, taken in paired.seconds.items():
        rates = [bench.images / seconds for seconds in taken]
        yield Row(goal, f"{bench.title}: {name}, images/s", None, True, *spread(rates), False)


def ratios(quotients: Sequence[Quotient], paired: Paired) -> Iterator[Row]:
    """Those quotients of which both things were measured."""
    for goal, what, wanted, more, one, other in quotients:
        if {one, other} <= set(paired.seconds):
            yield Row(goal, what, wanted, more, *paired.ratio(one, other))


def once(goal: str, what: str, value: float, wanted: float | None = None, more: bool = True) -> Row:
    """A figure that was taken once."""
    return Row(goal, what, wanted, more, value, value, value, 1, False)


def steps(bench: Bench, seconds: float, attentions: Sequence[str] = tuple(COSTS)) -> Iterator[Found]:
    """G1 and G3: our step beside a plain loop's and timm's, and mechanisms beside none, as written.

    Args:
        attentions: the mechanisms; without any, only none is measured.
    """
    things: dict[str, Build] = {"ours none": partial(our_epoch, bench), "plain none": partial(_plain, bench)}
    things["timm none"] = partial(_timm, bench)
    things |= {f"ours {attention}": partial(our_epoch, bench, attention) for attention in attentions}
    for attention in (name for name in TEXTBOOK if name in attentions):
        things[f"timm {attention}"] = partial(_timm, bench, attention)
        things[f"plain {attention}"] = partial(_plain, bench, attention)
    if attentions:
        things["ours none, not recorded"] = partial(our_epoch, bench, recorded=False)
        things["ours none, deterministic"] = partial(our_epoch, bench, deterministic=True)
    yield from _beside_others(things, seconds, bench)


def _beside_others(
    things: Mapping[str, Build], seconds: float, bench: Bench, took: Sequence[float] = ()
) -> Iterator[Found]:
    """Steps of ours, plain ones and, where it is installed, timm's in turn: images a second, G1's and G3's ratios.

    Args:
        took: the seconds of a compile, once it is done: the steps are compiled ones, and G7 comes first.
    """
    how = "compiled " if "compiled ours none" in things else ""
    if importlib.util.find_spec("timm") is None:
        things = {name: build for name, build in things.items() if "timm " not in name}
        yield Said(f"{bench.title}: timm's step{', compiled' * bool(how)} (timm is not installed)")

    def rows(paired: Paired) -> Iterator[Found]:
        if {"ours none", "compiled ours none"} <= set(paired.seconds):
            yield from _paid(bench, took[0], paired)
        yield from throughput("G1", bench, paired)
        yield from ratios(_quotients(bench, how), paired)

    yield from compared(things, seconds, bench, rows)


def _plain(bench: Bench, attention: str = "none", compiled: bool = False) -> Step:
    return plain_epoch(bench, textbook_net(bench, attention), compiled)


def _timm(bench: Bench, attention: str = "none", compiled: bool = False) -> Step:
    return timm_epoch(bench, timm_net(bench, attention), compiled)


def _quotients(bench: Bench, how: str) -> list[Quotient]:
    """Which seconds of steps are divided by which; `how` is how they are computed: as written, or `compiled `."""
    found = []
    for attention in ("none", *TEXTBOOK):
        what, ours = f"{bench.title}, {how}{attention}", f"{how}ours {attention}"
        found.append(Quotient("G1", f"{what}: plain loop / ours", 1.0, True, f"{how}plain {attention}", ours))
        found.append(Quotient("G1", f"{what}: timm's step / ours", 1.0, True, f"{how}timm {attention}", ours))
    for what in ("not recorded", "deterministic"):
        found.append(
            Quotient("G1", f"{bench.title}: {what} / ours", None, False, f"ours none, {what}", f"{how}ours none")
        )
    for attention, most in COSTS.items():
        what = f"{bench.title}, {how}{attention} / none"
        found.append(Quotient("G3", what, most, False, f"{how}ours {attention}", f"{how}ours none"))
    return found


def loop(bench: Bench, seconds: float) -> Iterator[Found]:
    """G2: our loop over a real split, with its data path, beside our steps and bare ones on a ready batch."""
    things: dict[str, Build] = {
        "ready": partial(our_epoch, bench),
        "crop+flip": partial(our_epoch, bench, kind=Batches, augment="crop+flip"),
        "bare": partial(_plain, bench),
        "loop": partial(our_epoch, bench, kind=Batches),
        "sent ahead": partial(our_epoch, bench, kind=Ahead, augment="crop+flip"),
    }
    pairs = (
        ("crop+flip", "ready"),
        ("loop", "bare"),
        ("crop+flip", "bare"),
        ("ready", "bare"),
        ("sent ahead", "ready"),
    )

    def rows(paired: Paired) -> Iterator[Found]:
        for name, other in pairs:
            wanted = None if name in ("ready", "sent ahead") else 1.03
            yield from ratios(
                [Quotient("G2", f"{bench.title}: our {name} / {other} steps", wanted, False, name, other)], paired
            )
        yield from throughput("G2", bench, paired)

    yield from compared(things, seconds, bench, rows)


def compiled(bench: Bench, seconds: float) -> Iterator[Found]:
    """G7, and G1 and G3 with compiled networks: ours beside timm's and a plain loop's, then mechanisms beside none."""
    late, took = time.perf_counter() + seconds, list[float]()
    ours = functools.cache(partial(_first_compiled, bench, took))
    things: dict[str, Build] = {"ours none": partial(our_epoch, bench), "compiled ours none": ours}
    things["compiled timm none"] = partial(_timm, bench, compiled=True)
    things["compiled plain none"] = partial(_plain, bench, compiled=True)
    yield from _beside_others(things, seconds, bench, took)
    for attention in COSTS:
        left = late - time.perf_counter()
        if not took or left < took[0]:
            yield Said(f"{bench.title}: compiled {attention} ({'no time was left' if took else 'none failed'})")
            continue
        pair: dict[str, Build] = {"compiled ours none": ours}
        pair[f"compiled ours {attention}"] = partial(our_epoch, bench, attention, compiled=True)
        yield from compared(pair, left, bench, partial(_cost, bench, attention))


def _first_compiled(bench: Bench, took: list[float]) -> Step:
    """Our compiled steps; the seconds until the first have been taken go into a list."""
    began = clock(bench.device)
    step = our_epoch(bench, compiled=True)
    step()
    took.append(clock(bench.device) - began)
    return step


def _cost(bench: Bench, attention: str, paired: Paired) -> Iterator[Found]:
    name = f"compiled ours {attention}"
    if name in paired.seconds:
        yield from (row for row in throughput("G1", bench, paired) if name in row.what)
        yield from ratios(_quotients(bench, "compiled "), paired)


def _paid(bench: Bench, took: float, paired: Paired) -> Iterator[Row]:
    """G7: how long torch.compile takes, and after how many steps of training that has paid."""
    pairs = zip(paired.seconds["ours none"], paired.seconds["compiled ours none"], strict=True)
    saved = spread([1000 * (one - other) / bench.steps for one, other in pairs])
    yield once("G7", f"{bench.title}: seconds to compile", took, more=False)
    yield Row("G7", f"{bench.title}: seconds saved per 1,000 steps", None, True, *saved, False)
    ratio = paired.ratio("ours none", "compiled ours none")
    yield Row("G7", f"{bench.title}: as written / compiled", None, True, *ratio)
    paid = 1000 * took / saved.value if saved.value > 0 else float("inf")
    yield once("G7", f"{bench.title}: steps until compiling has paid", paid, more=False)
