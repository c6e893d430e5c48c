"""Verbs that examine mechanisms: check, same, profile."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from attnbench.cli.deploying import Elsewhere, check_site, in_runtimes
from attnbench.cli.flags import CodeFlag, DataFlag, StoreFlag
from attnbench.errors import AttnbenchError, BadReference
from attnbench.examine.bench import BenchSettings
from attnbench.files import expanded
from attnbench.spec.run import Runtime

if TYPE_CHECKING:
    from attnbench.examine.matching import Measure
    from attnbench.spec.run import RunSpec


def check(
    reference: Positional[str],
    kind: Annotated[Literal["attention", "backbone", "dataset"], arg(name="as")] = "attention",
    data_dir: DataFlag = None,
) -> int:
    """Put a mechanism, a backbone or a data set through everything that ours promise; exit code 1 if one is broken.

    Args:
        reference: package.module:Class (or package.module:Class(option=1)), or the name of one of ours.
        kind: What it is; a backbone is a function of classes and channels, a data set one of folder and split.
    """
    from attnbench.examine.conformance import outcomes

    words = []
    for sentence, found in outcomes(reference, kind, expanded(data_dir or Runtime().data_dir)):
        words.append(found.word)
        print(f"{found.word:7} {sentence}")
        for what in filter(None, (*found.wrong, found.reason)):
            print(f"{'':8}{what}")
    apart = words.count("n/a")
    rest = f"; {apart} do not apply" if apart else ""
    print(f"{reference}: keeps {words.count('ok')} of {len(words) - apart} promises{rest}")
    return int("FAILED" in words)


def same(
    one: Positional[str],
    other: Positional[str],
    dataset: str = "CIFAR10",
    backbone: str = 'resnet18(stem="cifar")',
    site: str | None = None,
    store: StoreFlag = None,
    code: CodeFlag = (),
) -> int:
    """Prove that two runs differ in the mechanism only: same recipe, same modules, same initial values bit for bit.

    Args:
        one: A mechanism, or the id of a stored run.
        other: Another mechanism, or the id of a stored run.
        dataset: Data set of mechanisms given by name.
        backbone: Backbone of mechanisms given by name.
        site: Where mechanisms given by name go.
    """
    from attnbench.examine.sameness import same as proven
    from attnbench.spec.run import RunSpec
    from attnbench.store.runs import Store

    home = (Store(store) if store else Store.default()).holding(one)

    def meant(asked: str) -> RunSpec:
        found = _stored(asked, store, code)
        return found or RunSpec(dataset=dataset, backbone=backbone, attention=asked, site=site)

    found = proven(meant(one), meant(other), home)
    print(
        f"equal: {found.fields} fields of the recipe; {found.modules} modules of the backbone with "
        f"{found.values:,} initial values, bit for bit"
    )
    if found.replaced:
        print(f"replaced by a mechanism: {', '.join(found.replaced)}")
    for line in filter(None, [found.built_in, *(f"DIFFERENT: {difference}" for difference in found.differences)]):
        print(line)
    verdict = "differ in more than the mechanism" if found.differences else "differ in the mechanism only"
    print(f"{one} and {other} {verdict}")
    return int(bool(found.differences))


def _stored(asked: str, store: str | None, code: tuple[str, ...]) -> "RunSpec | None":
    """The spec of a stored run, by its id or folder; None for a mechanism, `ceca` too, though it could be an id."""
    from attnbench.catalogue.registry import ATTENTION
    from attnbench.store.asked import spec_of
    from attnbench.store.runs import Store

    looks = re.fullmatch(r"[0-9a-f]{4,12}", asked) or (Path(asked) / "record.json").is_file()
    if not looks or asked.lower() in {entry.name.lower() for entry in ATTENTION}:
        return None
    home = Store(store) if store else Store.default()
    return spec_of(home.holding(asked).find(asked), code)


def profile(
    bench: Annotated[BenchSettings, arg(name="")],
    elsewhere: Annotated[Elsewhere, arg(name="")],
    attention: Positional[tuple[str, ...]] = (),
    rounds: int | None = None,
    match: Literal["params", "macs"] | None = None,
    of: str | None = None,
    out: Path = Path("profiles"),
) -> int:
    """Measure what mechanisms cost on a backbone, beside the plain network; or match the plain network to one of them.

    Args:
        attention: The mechanisms; none given: the whole catalogue.
        rounds: Timed rounds, each of the plain network and of the mechanism (default: 9; with --runtime 80).
        match: Measure nothing; print the plain network, widened until it has the parameters (MACs) of --of.
        of: With --match: the mechanism that is matched (default: se).
        out: Folder of the CSV file, the table and the figure.
    """
    from attnbench.catalogue.registry import ATTENTION

    if match is not None:
        if attention or rounds is not None or elsewhere.runtime is not None:
            raise AttnbenchError("--match measures nothing: it takes --of MECHANISM, no mechanisms, rounds or runtime")
        elsewhere.check_unused()
        return _matched(of or "se", match, bench)
    if of is not None:
        raise AttnbenchError("--of goes with --match, as in --match params --of cbam")
    names = attention or tuple(entry.name for entry in ATTENTION if entry.builtin)
    folder = out / re.sub(r"\W+", "-", bench.backbone).strip("-")
    if elsewhere.runtime is not None:
        return in_runtimes(names, bench, elsewhere, rounds, folder)
    elsewhere.check_unused()
    return _profiled(names, bench, 9 if rounds is None else rounds, folder, named=bool(attention))


def _profiled(names: tuple[str, ...], bench: BenchSettings, rounds: int, folder: Path, named: bool) -> int:
    """Count and time a step of training and a forward pass of each; one without a place is refused if it was named."""
    from attnbench.examine.profiling import begun, profile_row, write_csv
    from attnbench.examine.profiling import profile as profiles
    from attnbench.report.costs import line, write
    from attnbench.training.numerics import choose_device

    check_site(bench)
    bench = replace(bench, device=str(choose_device(Runtime(device=bench.device))))
    partial = folder / "profile.unfinished.csv"  # an interrupted profile goes on from here
    rows = begun(partial, names, bench, rounds)
    for row in rows:
        print(f"{line(row)}  (measured before)")
    left = [name for name in names if name not in {row["attention"] for row in rows}]
    for measured in profiles(left, bench, rounds, left_out=None if named else _left_out):
        rows.append(profile_row(measured, bench, rounds))
        print(line(rows[-1]), flush=True)
        write_csv(rows, partial)
    if not rows:
        raise BadReference(f"none of the {len(names)} mechanisms can be measured in {bench.backbone}")
    partial.replace(folder / "profile.csv")
    written = write(folder)
    print(f"written: {', '.join(map(str, written))}")
    return 0


def _left_out(attention: str, why: str) -> None:
    """Of the whole catalogue not everything goes everywhere."""
    print(f"{attention}: {why}", flush=True)


def _matched(of: str, measure: "Measure", bench: BenchSettings) -> int:
    from attnbench.examine.matching import match

    found = match(of, measure, bench)
    print(f"{found.backbone}  {measure} {found.found:,} of {found.wanted:,}, ratio {found.ratio:.4f}")
    return 0
