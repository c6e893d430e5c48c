"""The verb on whole stores: list, merge, prune."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from attnbench.cli.flags import StoreFlag
from attnbench.errors import AttnbenchError
from attnbench.spec.run import Runtime

if TYPE_CHECKING:
    from attnbench.store.runs import Store


def store_(
    action: Positional[Literal["list", "merge", "prune"]],
    items: Positional[tuple[str, ...]] = (),
    store: StoreFlag = None,
    dry_run: bool = False,
) -> int:
    """List the runs of a store, merge other stores into it, or remove what nothing needs any more.

    Args:
        action: list, merge or prune.
        items: For list: FIELD=VALUE that runs must have (attention=se, status=done); for merge: the other stores.
        dry_run: For prune: say what would be removed.
    """
    from attnbench.store.runs import Store

    here = Store(store or Runtime().store)
    if action == "merge":
        return _merge(here, items)
    if not here.path.is_dir():
        raise AttnbenchError(f"{here.path}/: no such folder; give --store")
    if action == "list":
        return _list(here, items)
    if items:
        raise AttnbenchError(f"attnbench store prune takes no {items[0]!r}; --store names the store")
    return _prune(here, dry_run)


def _list(store: "Store", items: tuple[str, ...]) -> int:
    from attnbench.store.upkeep import listed

    wrong = [item for item in items if "=" not in item]
    if wrong:
        raise AttnbenchError(f"{wrong[0]!r} is not FIELD=VALUE: attention=se, status=done")
    done = failed = 0
    for record in listed(store, dict(item.split("=", 1) for item in items)):
        spec, done, failed = record.spec, done + record.done, failed + (not record.done)
        what = f"{record.score:.2f} % of {record.images} images" if record.done else f"failed: {record.error}"
        print(f"{record.id}  {spec['dataset']} {spec['backbone']} {spec['attention']} seed {spec['seed']}  {what}")
    print(f"{done + failed} runs in {store.path}/: {done} done, {failed} failed")
    return 0


def _merge(goal: "Store", items: tuple[str, ...]) -> int:
    from attnbench.store.runs import Store
    from attnbench.store.upkeep import merge

    if not items:
        raise AttnbenchError("attnbench store merge needs other stores: attnbench store merge A B --store GOAL")
    found = merge(goal, [Store(item) for item in items])
    for run, where in found.conflicts.items():
        print(f"conflict: {run} in {goal.path}/ is another result: {where}; neither was chosen")
    told = f"{len(found.copied)} runs copied into {goal.path}/, {len(found.same)} were there"
    print(f"{told}, {len(found.conflicts)} conflicts")
    return 1 if found.conflicts else 0


def _prune(store: "Store", dry_run: bool) -> int:
    from attnbench.store.upkeep import needless

    files: list[Path] = needless(store)
    size = sum(file.stat().st_size for file in files)
    if not dry_run:
        for file in files:
            file.unlink(missing_ok=True)
    print(f"{len(files)} files of {size / 1e6:.1f} MB {'would be' if dry_run else 'were'} removed from {store.path}/")
    return 0
