"""What docs/claims.md is made of: published gains of mechanisms, each beside the nearest regime of ours.

The numbers lie in docs/claims.yaml, the records of ours under results/.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from attnbench.analysis.cells import Arm, Cell
from attnbench.analysis.stats import Difference
from attnbench.catalogue.refs import nearest as nearest_word
from attnbench.catalogue.refs import parse
from attnbench.catalogue.registry import ATTENTION, DATASETS
from attnbench.errors import AttnbenchError, BadReference
from attnbench.report.markup import markdown_table
from attnbench.report.text import signed, spread
from attnbench.spec.arm import mechanism
from attnbench.spec.yaml import KeyPath
from attnbench.spec.yaml import load as read
from studies import CHOICES, ROOT, chosen, comparison, trained

FILE = ROOT / "docs" / "claims.yaml"
ROUNDING = 0.0051
"""By how much a gain in points may differ from the difference of two values that were rounded to two decimals."""
WORDS, NUMBERS = ("mechanism", "data", "network"), ("plain", "with", "gain", "runs", "source")
PUBLISHED = dict.fromkeys(WORDS, "l") | dict.fromkeys(NUMBERS, "r")
"""Columns of the published side -> how they are aligned."""
OURS = {"our gain": "r", "95 % interval": "l", "seeds": "r", "our regime": "l", "beside the claim": "l"}
OUTCOMES = ("agrees", "smaller", "opposite", "cannot tell")


class BadClaims(AttnbenchError):
    """For a file of claims with mistakes: one line each."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        super().__init__("\n".join(mistakes))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published gain; accuracies in percent, the gain in points."""

    mechanism: str
    """As the catalogue names it, with options where the source's variant is not the default."""
    network: str
    """As the source names it."""
    data: str
    """By this package's name, where it has the data set."""
    metric: str
    plain: float
    with_mechanism: float
    """`with` in the file."""
    gain: float
    runs: int | None
    """How many runs an arm are behind the values; None where the source says nothing."""
    paper: str
    year: int | None
    url: str
    """An address, or a file from docs/ on."""
    seen: str
    """Where in the source the numbers were seen."""
    note: str = ""

    @property
    def source(self) -> tuple[str, str]:
        """What tells the table apart that it stands in."""
        return self.url, self.seen


class Regime(NamedTuple):
    """An arm of ours, and the cell in which it was compared with the plain network."""

    cell: Cell
    arm: Arm

    @property
    def difference(self) -> Difference:
        """To the plain network, in points on these test images."""
        assert self.arm.difference is not None
        return self.arm.difference

    @property
    def length(self) -> tuple[float, int, int]:
        """How much its runs were trained, and how many there are: share of the training images, epochs, seeds."""
        spec = self.arm.records[0].spec
        return spec["train_fraction"] or 0.0, spec["epochs"], self.difference.n

    @property
    def text(self) -> str:
        """What was trained, how, and on what."""
        form = self.arm.records[0].canonical
        return f"`{self.arm.name}`, {form['backbone']}, {form['image_size']} px, {self.cell.about}"


# The file


def load(file: Path = FILE) -> list[Claim]:
    """The claims of a file, in its order.

    Raises:
        BadClaims: every mistake of its claims, each with its line.
        BadStudy: it cannot be read, or is no YAML.
    """
    marked = read(file, ["tables"])
    found, mistakes = [], [f"{file.name}:{line}: {place[-1]} {what}" for place, line, what in marked.wrong]
    for place, values in _rows(marked.values):
        wrong = ["neither a table with claims nor a claim with keys"] if values is None else list(_mistakes(values))
        mistakes += [f"{file.name}:{marked.line(place)}: {what}" for what in wrong]
        if values is not None and not wrong:
            found.append(Claim(with_mechanism=values.pop("with"), **values))
    if mistakes or not found:
        raise BadClaims(mistakes or [f"{file.name}: no claims; give tables: [{{claims: [...]}}]"])
    return found


def _rows(values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any] | None]]:
    """Where each claim stands, and its keys with those of its table; None for what is no mapping or has no claims."""
    tables = values.get("tables")
    for number, table in enumerate(tables if isinstance(tables, list) else []):
        rows = table.get("claims") if isinstance(table, dict) else None
        if not isinstance(rows, list) or not rows:
            yield ("tables", number), None
            continue
        shared = {key: value for key, value in table.items() if key != "claims"}
        for place, row in enumerate(rows):
            claim = {"note": "", **shared, **row} if isinstance(row, dict) else None
            yield ("tables", number, "claims", place), claim


def _mistakes(values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a claim, a sentence each; what needs the keys only where they are there."""
    known = [field.name.replace("with_mechanism", "with") for field in fields(Claim)]
    shape = [f"{key}: required" for key in known if key not in values]
    shape += [f"unknown key {key!r}{nearest_word(key, known)}" for key in values if key not in known]
    shape += [f"{key}: {values[key]!r} {what}" for key in values if key in known and (what := _kind(key, values[key]))]
    yield from shape
    if not shape:
        yield from _contradictions(values)


def _kind(key: str, value: object) -> str:
    """What a value should be and is not; empty if all is well."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in ("plain", "with"):
        return "" if number and 0 <= float(str(value)) <= 100 else "is no accuracy in percent"
    if key == "gain":
        return "" if number else "is no number of points"
    if key in ("runs", "year"):
        whole = isinstance(value, int) and number and value >= 1
        return "" if value is None or whole else "is neither a whole number from 1 on nor null"
    return "" if isinstance(value, str) and (value or key == "note") else "is no text"


def _contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    difference = values["with"] - values["plain"]
    if abs(difference - values["gain"]) > ROUNDING:
        yield f"gain: {values['gain']} is not {values['with']} - {values['plain']} = {difference:.2f}"
    try:
        if ATTENTION.resolve(values["mechanism"]).entry.card.control:
            yield f"mechanism: {values['mechanism']!r} is a control; give a mechanism"
    except BadReference as problem:
        yield f"mechanism: {problem}"
    if not values["url"].startswith("https://") and not (FILE.parent / values["url"]).is_file():
        yield f"url: {values['url']!r} is neither an https address nor a file from docs/ on"


# Beside ours


@functools.cache
def regimes() -> tuple[Cell, ...]:
    """The cells of ours that a claim may be set beside."""
    found = [comparison(name) for name in trained()] + [chosen(name).comparison for name in CHOICES]
    return tuple(cell for each in found for cell in each.cells)


def nearest(claim: Claim, cells: Sequence[Cell] | None = None) -> Regime | None:
    """The regime of ours that a claim is set beside: the same mechanism on the same data set; None if there is none.

    Of several the arm with the claim's own options goes first, then what was trained longest, then the most seeds.
    """
    own, name = ATTENTION.canonical(claim.mechanism), parse(claim.mechanism).name
    found = [
        Regime(cell, arm)
        for cell in (regimes() if cells is None else cells)
        for arm in cell.arms
        if cell.dataset == claim.data and arm.difference and parse(mechanism(arm.key) or "none").name == name
    ]
    return max(found, key=lambda each: (mechanism(each.arm.key) == own, *each.length), default=None)


def outcome(gain: float, low: float, high: float) -> str:
    """What the 95 % interval of our difference says of a published gain, all in points; docs/claims.md has the rule."""
    if gain == 0 or math.isnan(low):
        return "cannot tell"
    if gain < 0:  # a loss was published: the same, mirrored
        gain, low, high = -gain, -high, -low
    if high < 0:
        return "opposite"
    if high < gain:
        return "smaller"
    return "agrees" if low > 0 else "cannot tell"


# The page


def claims() -> str:
    """What the claims come to, those on data sets of this package beside ours, all others, and their sources."""
    found = load()
    sources = {source: number for number, source in enumerate(dict.fromkeys(claim.source for claim in found), start=1)}
    names = [entry.name for entry in DATASETS]
    order = sorted(found, key=lambda claim: (claim.data, claim.mechanism))
    beside = [(claim, nearest(claim)) for claim in order if claim.data in names]
    here = [[*_published(claim, sources), *_ours(claim, regime)] for claim, regime in beside]
    elsewhere = [_published(claim, sources) for claim in order if claim.data not in names]
    first = {claim.source: claim for claim in reversed(found)}
    parts = [
        _summary(found, beside),
        "### On data sets of this package",
        _table(PUBLISHED | OURS, here),
        "### On other data sets: *cannot tell*, not run",
        _table(PUBLISHED, elsewhere),
        "### Sources",
        "\n".join(_source(number, first[source]) for source, number in sources.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(found: Sequence[Claim], beside: Sequence[tuple[Claim, Regime | None]]) -> str:
    names = {parse(claim.mechanism).name for claim in found}
    told = sum(claim.runs is not None for claim in found)
    several = sum((claim.runs or 1) > 1 for claim in found)
    losses = sum(claim.gain < 0 for claim in found)
    count = Counter(_said(claim, regime) for claim, regime in beside)
    without = sum(regime is None for _, regime in beside)
    outcomes = ", ".join(f"*{each}* {count[each]}" for each in OUTCOMES)
    return (
        f"{len(found)} claims about {len(names)} mechanisms, from {len({claim.source for claim in found})} tables. "
        f"{told} come with the number of runs behind them, {several} with more than one; {losses} are losses.\n\n"
        f"{len(beside)} are on data sets of this package: {outcomes}; no regime of ours is near {without} of these."
    )


def _published(claim: Claim, sources: Mapping[tuple[str, str], int]) -> list[str]:
    values = [f"{claim.plain:.2f}", f"{claim.with_mechanism:.2f}", signed(claim.gain), str(claim.runs or "-")]
    return [f"`{claim.mechanism}`", claim.data, claim.network, *values, f"[{sources[claim.source]}]({claim.url})"]


def _ours(claim: Claim, regime: Regime | None) -> list[str]:
    if regime is None:
        return ["", "", "", "not run", "*cannot tell*"]
    gap = regime.difference
    seeds = f"{gap.n} + {gap.n_baseline}"
    return [signed(gap.mean), spread(gap, plus=True), seeds, regime.text, f"*{_said(claim, regime)}*"]


def _said(claim: Claim, regime: Regime | None) -> str:
    return outcome(claim.gain, regime.difference.low, regime.difference.high) if regime else "cannot tell"


def _source(number: int, claim: Claim) -> str:
    year = f", {claim.year}" if claim.year else ""
    note = f" {claim.note[0].upper()}{claim.note[1:]}." if claim.note else ""
    return f"{number}. [{claim.paper}]({claim.url}){year}: {claim.seen}.{note}"


def _table(columns: Mapping[str, str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(markdown_table(columns, rows, "".join(columns.values())))
