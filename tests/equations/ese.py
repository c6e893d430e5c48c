"""Effective squeeze-and-excitation: section 3.2 of Lee and Park 2019 (arXiv 1911.06667)."""

from torch import nn

from equations.numeric import Array, hard_sigmoid, linear

CASES = ["ese"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    return x * hard_sigmoid(linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"]))[:, :, None, None]


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's EffectiveSEModule."""
    from timm.layers import EffectiveSEModule

    twin = EffectiveSEModule(channels)
    twin.load_state_dict(module.state_dict())
    return twin
