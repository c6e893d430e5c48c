"""Circular efficient channel attention: equation 9 of Wang et al. 2019 (arXiv 1910.03151) on a ring of channels."""

import numpy as np
from torch import nn

from equations.numeric import Array, sigmoid

CASES = ["ceca", "ceca(kernel=5)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    taps, y = w["mix.weight"][0, 0], x.mean((2, 3))
    logits = sum(tap * np.roll(y, len(taps) // 2 - place, axis=1) for place, tap in enumerate(taps))
    return x * sigmoid(logits)[:, :, None, None]


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's CecaModule."""
    from timm.layers import CecaModule

    twin = CecaModule(channels)
    twin.load_state_dict({"conv.weight": module.state_dict()["mix.weight"]})
    return twin
