"""A checkpoint of the plain network into the grafted one, and what became of every tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnbench.errors import BadReference
from attnbench.networks.grafted import Grafted

FITTING = 0.5
"""Share of a network's tensors that a checkpoint must hold to be taken for one of it."""


@dataclass(frozen=True)
class Loaded:
    """What became of a checkpoint's tensors."""

    loaded: tuple[str, ...]
    """Names, in the plain network, of what was taken from the checkpoint."""
    new: tuple[str, ...]
    """Names, in the grafted network, of what belongs to mechanisms and keeps its initial values."""
    missing: tuple[str, ...]
    """Tensors of the plain network that the checkpoint has not; they keep the values that they had."""
    left_over: tuple[str, ...]
    """Tensors of the checkpoint that found no place, those of another shape with both shapes."""

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded", f"{len(self.new)} new"]
        for what, names in (("missing", self.missing), ("left over", self.left_over)):
            shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            parts.append(f"{len(names)} {what}" + (f" ({shown})" if names else ""))
        return ", ".join(parts)


def plain_names(model: nn.Module) -> dict[str, str]:
    """Name of each tensor of the plain network -> its name in the grafted one."""
    named = model.named_modules(remove_duplicate=False)  # a state dict has what is shared under each of its names
    grafts = {path: module.plain for path, module in named if isinstance(module, Grafted)}
    found = {}
    for name in model.state_dict():
        parts, kept, ours = name.split("."), list[str](), False
        for number, part in enumerate(parts):
            above = ".".join(parts[:number])
            if above in grafts:
                ours = ours or part != str(grafts[above])
            else:
                kept.append(part)
        if not ours:
            found[".".join(kept)] = name
    return found


def load_pretrained(model: nn.Module, state: Mapping[str, Any]) -> Loaded:
    """Load a checkpoint of the plain network into the grafted one, and say what became of every tensor.

    Args:
        state: name -> tensor, as `state_dict()` gives it; a checkpoint that holds it as `state_dict` or `model`, and
            names that begin with `module.`, are understood.

    Raises:
        BadReference: it is a checkpoint of another network.
    """
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), Mapping):
            state = state[key]
    given = {str(name).removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}
    own, names = model.state_dict(), plain_names(model)
    fitting = {name for name in names if name in given and given[name].shape == own[names[name]].shape}
    if len(fitting) < FITTING * len(names):
        stranger = next((name for name in given if name not in names), "none by any name")
        raise BadReference(
            f"the checkpoint is of another network: {len(fitting)} of {len(names)} tensors are there in their shapes; "
            f"it holds {stranger}, the network {next((name for name in names if name not in fitting), '')}; "
            f"give one of the plain {type(model).__name__}, as its state_dict() has it"
        )
    shapes = {
        name: " for ".join("x".join(map(str, value.shape)) for value in (given[name], own[names[name]]))
        for name in given
        if name in names
    }
    own.update({names[name]: given[name] for name in fitting})
    model.load_state_dict(own)  # its metadata with it, which some networks read
    return Loaded(
        loaded=tuple(name for name in names if name in fitting),
        new=tuple(name for name in own if name not in set(names.values())),
        missing=tuple(name for name in names if name not in given),
        left_over=tuple(f"{name} {shapes.get(name, '')}".rstrip() for name in given if name not in fitting),
    )
