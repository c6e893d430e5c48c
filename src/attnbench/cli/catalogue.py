"""Verbs on mechanisms, backbones and data sets: list, show, data."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from attnbench.cli.flags import DataFlag
from attnbench.cli.printing import KINDS, LIBRARIES, card_lines, table
from attnbench.console import say
from attnbench.errors import AttnbenchError
from attnbench.files import expanded
from attnbench.spec.run import Runtime

Kind = Literal["attention", "backbones", "datasets"]


def list_(
    what: Positional[Kind],
    kind: Literal["D", "R", "S", "control"] | None = None,
    since: int = 0,
    until: int = 9999,
    most_parameters: int | None = None,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> int:
    """List mechanisms, backbones or data sets in groups; mechanisms with year and parameters at 256 channels.

    Args:
        what: attention, backbones or datasets.
        kind: Mechanisms that follow a convolution (D), replace one (R), work at stage level (S), or are controls.
        since: Mechanisms of this year or later.
        until: Mechanisms of this year or earlier.
        most_parameters: Mechanisms with at most so many parameters at 256 channels.
        as_json: As JSON.
    """
    from attnbench.catalogue.registry import ATTENTION, BACKBONES, DATASETS

    registries: dict[str, Any] = {"attention": ATTENTION, "backbones": BACKBONES, "datasets": DATASETS}
    entries = list(registries[what])
    if what == "attention":
        entries = [entry for entry in entries if _wanted(entry, kind, since, until, most_parameters)]
    elif kind or since or until != 9999 or most_parameters is not None:
        raise AttnbenchError(f"--kind, --since, --until and --most-parameters choose mechanisms, not {what}")
    if as_json:
        print(json.dumps([entry.about() for entry in entries], indent=1))
        return 0
    print("\n".join(_listed(what, entries)))
    if what == "attention" and len(entries) == len(list(ATTENTION)):
        say(f"several at one place: {', '.join(f'{entry.name}(eca, sa)' for entry in ATTENTION.compositions)}")
    return 0


def _listed(what: Kind, entries: Sequence[Any]) -> list[str]:
    """The entries in groups: mechanisms by kind, backbones and data sets by what images they are for."""
    groups: dict[str, list[list[str]]] = {name: [] for name in KINDS.values()} if what == "attention" else {}
    for entry in sorted(entries, key=lambda each: _order(each.card)):
        heading, cells = _row(what, entry)
        groups.setdefault(heading, []).append([entry.name, *cells, entry.summary])
    heads = {
        "attention": ["mechanism", "year", "parameters", "at 256 channels: what it does"],
        "backbones": ["backbone", "what it is"],
        "datasets": ["data set", "images", "classes", "what it is"],
    }
    return table(groups, heads[what])


def _order(card: Any) -> int:
    """Small images first, what is of any size last; mechanisms stay as they are."""
    if getattr(card, "families", None):
        return 2_000_000
    return getattr(card, "image_size", 1) or 1_000_000


def _row(what: Kind, entry: Any) -> tuple[str, list[str]]:
    """The group of an entry, and the cells between its name and its summary."""
    card = entry.card
    if what == "attention":
        count = _parameters(entry)
        cells = [str(card.year or "-"), "-" if count is None else f"{count:,}"]
        return KINDS["control" if card.control else card.kind], cells
    size = f"for images of {card.image_size} px" if card.image_size else "for images of any size"
    if what == "backbones":
        return LIBRARIES if card.families else size, []
    return size.removeprefix("for "), [
        f"{sum(card.images.values()):,}" if card.images else "-",
        str(card.classes or "-"),
    ]


def _wanted(entry: Any, kind: str | None, since: int, until: int, most_parameters: int | None) -> bool:
    card = entry.card
    own = "control" if card.control else card.kind
    cheap = most_parameters is None or ((count := _parameters(entry)) is not None and count <= most_parameters)
    return kind in (None, own) and since <= (card.year or since) <= until and cheap


def _parameters(entry: Any) -> int | None:
    """By the card's formula, at 256 channels on a 14x14 map."""
    from attnbench.catalogue.formula import promised

    return promised(entry.card, entry.defaults, 256, (14, 14)) if entry.card.parameters else None


def show(name: Positional[str]) -> int:
    """Show a card: a mechanism's with its cost at common widths, a backbone's or a data set's.

    Args:
        name: Its name, with options if you like: "ge(extent=2)".
    """
    from attnbench.catalogue.refs import COMPOSITIONS, nearest, parse
    from attnbench.catalogue.registry import ATTENTION, BACKBONES, DATASETS
    from attnbench.errors import BadReference

    asked = parse(name)
    registries: tuple[Any, ...] = (ATTENTION, BACKBONES, DATASETS)
    known = {entry.name: registry for registry in reversed(registries) for entry in registry}
    by_name = {each.lower(): registry for each, registry in known.items()}
    attention = asked.is_object or asked.name.lower() in COMPOSITIONS
    registry = ATTENTION if attention else by_name.get(asked.name.lower())
    if registry is None:
        raise BadReference(f"nothing is called {asked.name!r}{nearest(asked.name, known)}")
    choice = registry.resolve(name)
    print("\n".join(card_lines(choice.entry.about())))
    if registry is ATTENTION:
        _show_cost(name, choice)
    return 0


def _show_cost(name: str, choice: Any) -> None:
    """What only a built mechanism tells, and its papers for a bibliography."""
    from attnbench.catalogue.compositions import papers
    from attnbench.networks.cost import cost_of
    from attnbench.report.latex import bibtex

    print("\nchannels  map    parameters         MACs")
    for channels, side in ((64, 56), (128, 28), (256, 14), (512, 7)):
        found = cost_of(name, channels, (side, side))
        print(f"{channels:8}  {side}x{side}  {found['parameters']:10,}  {found['macs']:11,}")
    for own, card in papers(choice).items():
        if not card.control:
            print(f"\n{bibtex(own, dataclasses.asdict(card))}", end="")


def data(
    action: Positional[Literal["list", "get", "check"]],
    names: Positional[tuple[str, ...]] = (),
    data_dir: DataFlag = None,
    image_size: int | None = None,
) -> int:
    """List data sets, get official files (resuming a broken download), or check data for what can be wrong.

    Args:
        action: list, get or check.
        names: Data sets; list needs none.
        image_size: For check: side in pixels that images of many sizes are brought to.
    """
    from attnbench.examine import datasets

    folder = expanded(data_dir or Runtime().data_dir)
    if action == "list":
        return datasets.show(folder)
    if not names:
        raise AttnbenchError(f"attnbench data {action} needs the name of a data set; attnbench data list shows them")
    if action == "get":
        return max(datasets.get(name, folder) for name in names)
    return max(datasets.check(name, folder, image_size) for name in names)
