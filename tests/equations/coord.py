"""Coordinate attention: equations 4-9 of Hou et al. 2021 (arXiv 2103.02907)."""

import numpy as np
from torch import nn

from equations.numeric import Array, batch_norm, conv, hard_swish, sigmoid

CASES = ["coord", "coord(reduction=2)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    z_h, z_w = x.mean(3)[..., None], x.mean(2)[..., None]  # eq. 4, 5
    f = conv(np.concatenate([z_h, z_w], axis=2), w["squeeze.weight"], w["squeeze.bias"])  # eq. 6
    f = hard_swish(batch_norm(f, w, "norm"))
    g_h = sigmoid(conv(f[:, :, : x.shape[2]], w["rows.weight"], w["rows.bias"]))  # eq. 7
    g_w = sigmoid(conv(f[:, :, x.shape[2] :], w["columns.weight"], w["columns.bias"]))  # eq. 8
    return x * g_h * g_w[:, :, None, :, 0]  # eq. 9


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's CoordAttn."""
    from timm.layers.coord_attn import CoordAttn

    twin, ours = CoordAttn(channels, rd_channels=8, bias=True), module.state_dict()
    names = {"conv1": "squeeze", "bn1": "norm", "conv_h": "rows", "conv_w": "columns"}
    loaded = {}
    for name in twin.state_dict():
        part, field = name.split(".")
        loaded[name] = ours[f"{names[part]}.{field}"]
    twin.load_state_dict(loaded)
    return twin
