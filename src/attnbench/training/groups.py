"""Groups of parameters that learn alike: by weight decay, multiple of the learning rate, and first epoch."""

from collections.abc import Collection
from typing import Any

from torch import nn

from attnbench.networks.parts import layers, parts
from attnbench.spec.finetuning import thawed
from attnbench.spec.run import RunSpec
from attnbench.training.freezing import frozen


def parameter_groups(spec: RunSpec, model: nn.Module, spared: Collection[str]) -> list[dict[str, Any]]:
    """The groups of an optimiser, over all parameters that learn at some time.

    Each has its `lr_scale`, by which the learning rate of a step is multiplied, as timm's have, and is `late` where its
    parameters learn only when what was frozen thaws: an optimiser wants momentum for all of a group, or for none.

    Args:
        spared: names of parameters without weight decay.
    """
    scales = learning_rate_scales(spec, model)
    late = frozen(spec, model) if thawed(vars(spec)) else set()
    groups: dict[tuple[bool, float, bool], dict[str, Any]] = {}
    for bare in (False, True):
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or (name in spared) != bare:
                continue
            kind = (bare, scales.get(name, 1.0), name in late)
            decay = 0.0 if bare else spec.weight_decay
            blank = {"params": [], "weight_decay": decay, "lr_scale": kind[1], "late": kind[2]}
            groups.setdefault(kind, blank)["params"].append(parameter)
    return list(groups.values())


def learning_rate_scales(spec: RunSpec, model: nn.Module) -> dict[str, float]:
    """Name of each parameter -> the multiple of the learning rate that it learns with; empty where all learn alike.

    The backbone's falls by `layer_decay` from each layer to the one below it, the head's layer being the top.

    Raises:
        BadSpec: a layer decay for a network whose layers are not known.
    """
    factors = {"backbone": spec.backbone_lr, "mechanism": spec.mechanism_lr, "head": spec.head_lr}
    if set(factors.values()) == {1.0} and spec.layer_decay == 1:
        return {}
    belongs = parts(model)
    scales: dict[str, float] = {name: factors[part] for name, part in belongs.items()}
    if spec.layer_decay < 1:
        depth = layers(model, spec.resolved.backbone)
        top = max(depth.values())
        scales |= {
            name: scales[name] * spec.layer_decay ** (top - depth[name])
            for name, part in belongs.items()
            if part == "backbone"
        }
    return scales
