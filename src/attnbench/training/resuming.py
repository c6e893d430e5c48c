"""A run that goes on: what a checkpoint must agree with, and where training may stop."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attnbench.console import say
from attnbench.devices import out_of_memory
from attnbench.errors import BadSpec, StoreProblem
from attnbench.networks.parts import norms
from attnbench.spec.run import RunSpec
from attnbench.store.runs import Store
from attnbench.training.numerics import differences
from attnbench.training.state import State
from attnbench.training.team import Team


def resume(store: Store, spec: RunSpec, state: State, mark: dict[str, Any]) -> int:
    """Take up the newest checkpoint, if there is one; returns how often that has been done with this run."""
    saved, numerics = store.latest(spec.id), mark["numerics"]
    for what, words in (("images", "on other images"), ("initial", "from other weights")):
        if saved is not None and saved.get(what, mark[what]) != mark[what]:
            say(f"run {spec.id} was begun {words} than are there now: it starts anew")
            store.drop_checkpoints(spec.id)
            saved = None
    if saved is None:
        store.mend_journal(spec.id, [])
        store.log(spec.id, "start", spec=spec.fields, numerics=numerics)
        return 0
    folder = store.folder(spec.id)
    if was := _unlike(saved, mark, spec, state.model):
        raise StoreProblem(
            f"run {spec.id} was begun with {was}; go on with the same, or delete {folder}/ to start anew"
        )
    _take_over(numerics, saved["numerics"])
    try:
        state.restore(saved)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as problem:
        if out_of_memory(problem):
            raise  # which says nothing of the checkpoint
        raise StoreProblem(
            f"{folder}/ has a checkpoint of another network ({problem}); delete it to start anew"
        ) from None
    resumed: int = saved["resumed"] + 1
    store.mend_journal(spec.id, state.curves)
    store.log(spec.id, "resume", epoch=state.epoch, step=state.step)
    return resumed


def heed(spec: RunSpec, state: State) -> None:
    """End here if somebody asked for it; the same run goes on from its checkpoint.

    Raises:
        KeyboardInterrupt: somebody did.
    """
    if state.stop and state.epoch < spec.epochs:
        raise KeyboardInterrupt(f"stopped at epoch {state.epoch + 1}, step {state.step}")


def check_parts(spec: RunSpec, model: nn.Module, team: Team) -> None:
    """Refuse to take batches in parts where that would be another recipe.

    Raises:
        BadSpec: the network has batch norm, or several processes share the batches already.
    """
    if team.size > 1:
        raise BadSpec({"micro_batch": f"'auto' is for one process, not {team.size}, which share each batch already"})
    if _sees_whole_batches(spec, model):
        raise BadSpec({"micro_batch": f"'auto' would change what batch norm computes in {spec.backbone}; give 'never'"})


def _goes_on(before: dict[str, Any], now: dict[str, Any], spec: RunSpec, model: nn.Module) -> bool:
    """Whether training may go on: under equal numerics, or with other processes where no layer looks across images."""
    if _sees_whole_batches(spec, model):
        return before == now
    return {**before, "processes": 0, "portable": 0} == {**now, "processes": 0, "portable": 0}


def _unlike(saved: Mapping[str, Any], mark: Mapping[str, Any], spec: RunSpec, model: nn.Module) -> str:
    """In what numerics, code and versions differ so that training may not go on, in words; empty where it may."""
    if not _goes_on(saved["numerics"], mark["numerics"], spec, model):
        return differences(saved["numerics"], mark["numerics"])
    now = mark["code"]
    before = saved.get("code", now)  # checkpoints of earlier versions do not say
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(
        "other numerical code" if name == "code" else f"{name} {before.get(name)} (now {now.get(name)})"
        for name in changed
    )


def _take_over(numerics: dict[str, Any], before: Mapping[str, Any]) -> None:
    """What was in force for a part of a run stays said of it: several processes, and whether all was portable."""
    if (processes := max(each.get("processes", 1) for each in (before, numerics))) > 1:
        numerics["processes"] = processes
    if "portable" in before:
        numerics["portable"] = numerics["portable"] and before["portable"]


def _sees_whole_batches(spec: RunSpec, model: nn.Module) -> bool:
    """Whether a batch norm learns; one that is frozen sees each image alone."""
    frozen = {*norms(model).values()} if spec.frozen_norm else set()
    return any(isinstance(module, _BatchNorm) and module not in frozen for module in model.modules())
