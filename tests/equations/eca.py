"""Efficient channel attention: equations 9 and 12 of Wang et al. 2019 (arXiv 1910.03151)."""

import numpy as np
from torch import nn

from equations.numeric import Array, sigmoid

CASES = ["eca", "eca(kernel=5)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    taps = w["mix.weight"][0, 0]
    half = len(taps) // 2
    y = np.pad(x.mean((2, 3)), ((0, 0), (half, half)))
    omega = sigmoid(np.stack([y[:, c : c + len(taps)] @ taps for c in range(x.shape[1])], axis=1))  # eq. 9
    return x * omega[:, :, None, None]


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's EcaModule, whose kernel follows the width as the paper's does."""
    from timm.layers import EcaModule

    twin = EcaModule(channels)
    twin.load_state_dict({"conv.weight": module.state_dict()["mix.weight"]})
    return twin
