"""Verbs on what can be asked for: list, show, data."""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from attnbench.errors import AttnbenchError
from attnbench.flags import DataFlag
from attnbench.spec import Runtime

Kind = Literal["attention", "backbones", "datasets"]


def list_(what: Positional[Kind], as_json: Annotated[bool, arg(name="json")] = False) -> int:
    """List what can be asked for.

    Args:
        what: attention, backbones or datasets.
        as_json: As JSON.
    """
    from attnbench.registry import ATTENTION, BACKBONES, DATASETS

    registries: dict[str, Any] = {"attention": ATTENTION, "backbones": BACKBONES, "datasets": DATASETS}
    entries = list(registries[what])
    if as_json:
        print(json.dumps([entry.about() for entry in entries], indent=1))
        return 0
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        print(f"{entry.name:{width}}  {entry.summary}")
    return 0


def show(name: Positional[str]) -> int:
    """Show a card: a mechanism's, a backbone's or a data set's.

    Args:
        name: Its name.
    """
    from attnbench.errors import BadReference
    from attnbench.refs import nearest
    from attnbench.registry import ATTENTION, BACKBONES, DATASETS

    known: list[str] = []
    registries: tuple[Any, ...] = (ATTENTION, BACKBONES, DATASETS)
    for registry in registries:
        known += [entry.name for entry in registry]
        with contextlib.suppress(BadReference):
            entry = registry.resolve(name)[0]
            for field, value in entry.about().items():
                if value not in ("", {}, (), None):
                    print(f"{field:12} {value}")
            return 0
    raise BadReference(f"nothing is called {name!r}{nearest(name, known)}")


def data(
    action: Positional[Literal["list", "get", "check"]],
    names: Positional[tuple[str, ...]] = (),
    data_dir: DataFlag = None,
) -> int:
    """List data sets, get official files (resuming a broken download), or check data for what can be wrong.

    Args:
        action: list, get or check.
        names: Data sets; list needs none.
    """
    from attnbench.data import verbs

    folder = Path(data_dir or Runtime().data_dir)
    if action == "list":
        return verbs.show(folder)
    if not names:
        raise AttnbenchError(f"attnbench data {action} needs the name of a data set; attnbench data list shows them")
    return max({"get": verbs.get, "check": verbs.check}[action](name, folder) for name in names)
