"""What of a network does not learn: for a whole run, or for its first epochs; and batch norm that stands still."""

import re
from typing import TYPE_CHECKING

from torch import nn

from attnbench.errors import BadSpec
from attnbench.networks.checkpoints import plain_names
from attnbench.networks.parts import norms, parts
from attnbench.spec.finetuning import thawed
from attnbench.spec.run import RunSpec

if TYPE_CHECKING:
    from attnbench.training.state import State


def frozen(spec: RunSpec, model: nn.Module) -> set[str]:
    """Names of the parameters that `freeze` names, in the network as it is.

    Raises:
        BadSpec: a pattern that matches none.
    """
    if spec.freeze == "none":
        return set()
    if spec.freeze.startswith("pattern:"):
        return _matching(spec.freeze.removeprefix("pattern:"), model)
    still = {"backbone"} if spec.freeze == "backbone" else {"backbone", "mechanism"}
    return {name for name, part in parts(model).items() if part in still}


def settle(spec: RunSpec, model: nn.Module) -> None:
    """Take the gradients of what does not learn in the whole run, scales of frozen norms among it.

    Raises:
        BadSpec: nothing would learn, in some epoch; no such parameter or batch norm is there.
    """
    still, named = frozen(spec, model), dict(model.named_parameters())
    if spec.frozen_norm:
        for norm in _norms(spec, model).values():
            norm.requires_grad_(False)
    learning = {name for name, parameter in named.items() if parameter.requires_grad}
    if not learning - still:
        raise BadSpec({"freeze": f"{spec.freeze!r} leaves nothing of {spec.backbone} that learns"})
    if not thawed(vars(spec)):
        for name in still:
            named[name].requires_grad_(False)


def begin_epoch(spec: RunSpec, state: "State") -> None:
    """Put the network into training mode, its frozen norms into evaluation mode, and thaw what learns from here on.

    It follows from the epoch's number alone, so that a run can go on anywhere.
    """
    state.model.train()
    if spec.frozen_norm:
        for norm in _norms(spec, state.model).values():
            norm.eval()
    for group in state.optimizer.param_groups:
        if group.get("late"):
            for parameter in group["params"]:
                parameter.requires_grad_(state.epoch >= spec.freeze_epochs)


def _matching(pattern: str, model: nn.Module) -> set[str]:
    """The parameters of the backbone whose path in the plain network matches."""
    names, own = plain_names(model), {name for name, _ in model.named_parameters()}
    plain = {name: ours for name, ours in names.items() if ours in own}
    found = {ours for name, ours in plain.items() if re.fullmatch(pattern, name)}
    if not found:
        some = ", ".join([*plain][:3])
        raise BadSpec({"freeze": f"pattern {pattern!r} matches no parameter of the plain network, as {some}, ..."})
    return found


def _norms(spec: RunSpec, model: nn.Module) -> dict[str, nn.Module]:
    found = norms(model)
    if not found:
        raise BadSpec({"frozen_norm": f"{spec.backbone} has no batch norm with running statistics; leave it out"})
    return found
