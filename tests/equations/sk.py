"""Selective kernels: equations 1-6 of Li et al. 2019 (arXiv 1903.06586)."""

import numpy as np
from torch import nn

from equations.numeric import Array, batch_norm, conv, linear, relu

CASES = ["sk", "sk(branches=3, groups=4, least=8)"]


def written(w: dict[str, Array], x: Array, branches: int, groups: int, **_: object) -> Array:
    u = [
        relu(batch_norm(conv(x, w[f"split.{m}.0.weight"], dilation=m + 1, groups=groups), w, f"split.{m}.1"))
        for m in range(branches)
    ]
    s = np.sum(u, axis=0).mean((2, 3))  # eq. 1, 2
    z = relu(batch_norm(linear(s, w["fuse.0.weight"]), w, "fuse.1"))  # eq. 3, 4
    a = np.exp(linear(z, w["select.weight"]).reshape(len(x), branches, -1))
    a = a / a.sum(1, keepdims=True)  # eq. 5
    return sum(u[m] * a[:, m, :, None, None] for m in range(branches))  # eq. 6


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's SelectiveKernel with every branch seeing all channels."""
    from timm.layers import SelectiveKernel

    twin = SelectiveKernel(channels, channels, groups=32, rd_channels=32, split_input=False)
    names = {"fuse.0": "attn.fc_reduce", "fuse.1": "attn.bn", "select": "attn.fc_select"}
    names |= {f"split.{m}.{layer}": f"paths.{m}.{what}" for m in (0, 1) for layer, what in ((0, "conv"), (1, "bn"))}
    loaded = {}
    for name, value in module.state_dict().items():
        part, field = name.rsplit(".", 1)
        loaded[f"{names[part]}.{field}"] = value
    twin.load_state_dict(loaded)
    return twin
