"""The verb on whole stores: list, check, merge, export, prune."""

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from attnbench.cli.flags import DataFlag, StoreFlag
from attnbench.console import printable
from attnbench.errors import AttnbenchError, StoreProblem
from attnbench.spec.run import Runtime

if TYPE_CHECKING:
    from attnbench.store.runs import Store


def store_(
    action: Positional[Literal["list", "check", "merge", "export", "prune"]],
    items: Positional[tuple[str, ...]] = (),
    store: StoreFlag = None,
    out: Path | None = None,
    weights: bool = False,
    data_dir: DataFlag = None,
    dry_run: bool = False,
) -> int:
    """List the runs of a store, check its files, merge others into it, put a study into one file, or tidy up.

    Args:
        action: list runs by what they are; check each file by the hash recorded of it (exit code 1 if one differs);
            merge stores and bundles into this one (1 if two results of a run differ); export a study as one file that
            report, reproduce and verify read anywhere; prune what nothing needs any more.
        items: list: FIELD=VALUE that runs must have (attention=se); merge: the others; export: the study's file, or
            nothing for all runs.
        out: For export: the file (default: the study's name and a hash of all that the bundle holds).
        weights: For export: the weights of the runs too.
        dry_run: For prune: say what would be removed.
    """
    from attnbench.store.runs import Store

    here = Store(store or Runtime().store)
    flags = {"--out": out, "--weights": weights, "--data-dir": data_dir, "--dry-run": dry_run}
    for flag, for_action in zip(flags, ("export", "export", "prune", "prune"), strict=True):
        if flags[flag] and action != for_action:
            raise AttnbenchError(f"{flag} is for attnbench store {for_action}; {action} has no use for it")
    if action == "merge":
        return _merge(here, items)
    if not here.path.is_dir():
        raise AttnbenchError(f"{here.path}/: no such folder; give --store")
    if action == "list":
        return _list(here, items)
    if len(items) > (action == "export"):
        raise AttnbenchError(f"attnbench store {action} takes no {items[-1]!r}; --store names the store")
    if action == "export":
        return _export(here, items, out, weights)
    return _check(here) if action == "check" else _prune(here, data_dir or Runtime().data_dir, dry_run)


def _list(store: "Store", items: tuple[str, ...]) -> int:
    from attnbench.store.upkeep import listed

    wrong = [item for item in items if "=" not in item]
    if wrong:
        raise AttnbenchError(f"{wrong[0]!r} is not FIELD=VALUE: attention=se, status=done")
    done = failed = 0
    for record in listed(store, dict(item.split("=", 1) for item in items)):
        spec, done, failed = record.spec, done + record.done, failed + (not record.done)
        what = f"{record.score:.2f} % of {record.images} images" if record.done else f"failed: {record.error}"
        told = f"{record.id}  {spec['dataset']} {spec['backbone']} {spec['attention']} seed {spec['seed']}  {what}"
        print(printable(told))
    print(f"{done + failed} runs in {store.path}/: {done} done, {failed} failed")
    return 0


def _check(store: "Store") -> int:
    from attnbench.examine.integrity import check

    found = check(store)
    print("\n".join(map(str, found)))
    return int(any(remark.word == "FAILED" for remark in found))


def _merge(goal: "Store", items: tuple[str, ...]) -> int:
    from attnbench.store.bundle import opened
    from attnbench.store.runs import Store
    from attnbench.store.upkeep import merge

    if not items:
        raise AttnbenchError("attnbench store merge needs other stores: attnbench store merge A B --store GOAL")
    with contextlib.ExitStack() as open_ones:
        found = merge(goal, [Store(open_ones.enter_context(opened(Path(item)))) for item in items])
    for run, where in found.conflicts.items():
        print(printable(f"conflict: {run} in {goal.path}/ is another result: {where}; neither was chosen"))
    told = f"{len(found.copied)} runs copied into {goal.path}/, {len(found.same)} were there"
    print(f"{told}, {len(found.conflicts)} conflicts")
    return 1 if found.conflicts else 0


def _export(store: "Store", items: tuple[str, ...], out: Path | None, weights: bool) -> int:
    from attnbench.cli.sharing import bundled

    bundled(Path(items[0]) if items else store.path, str(store.path), out, weights)
    return 0


def _prune(store: "Store", data_dir: str, dry_run: bool) -> int:
    from attnbench.data.cache import unused
    from attnbench.store.upkeep import needless

    said = "would be" if dry_run else "were"
    for what, where, paths in (
        ("files", f"{store.path}/", needless(store)),
        ("decoded data sets that nothing names any more", f"the cache of {data_dir}/", unused(data_dir)),
    ):
        size = sum(file.stat().st_size for path in paths for file in [path, *path.rglob("*")] if file.is_file())
        if not dry_run:
            _remove(paths)
        if paths or what == "files":
            print(f"{len(paths)} {what} of {size / 1e6:.1f} MB {said} removed from {where}")
    return 0


def _remove(paths: list[Path]) -> None:
    try:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as problem:
        raise StoreProblem(f"{problem.filename} cannot be removed: {problem.strerror}") from None
