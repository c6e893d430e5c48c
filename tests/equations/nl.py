"""Non-local block: equations 1-6 of Wang et al. 2018 (arXiv 1711.07971)."""

import numpy as np
from torch import nn

from equations.numeric import Array, batch_norm, conv

CASES = ["nl", 'nl(mode="gaussian")', 'nl(mode="dot", reduction=4)', 'nl(variant="official")']


def written(w: dict[str, Array], x: Array, mode: str, variant: str, **_: object) -> Array:
    def part(name: str) -> Array:
        return conv(x, w[f"{name}.weight"], w[f"{name}.bias"]) if f"{name}.weight" in w else x

    height, width = x.shape[2:]
    theta, phi, g = part("query"), part("key"), part("value")
    y = np.zeros((len(x), g.shape[1], height, width))
    for i, j in np.ndindex(height, width):
        f = np.einsum("bc,bchw->bhw", theta[:, :, i, j], phi)  # eq. 4
        if mode == "dot":
            f = f / (height * width)
        else:
            f = f / np.sqrt(g.shape[1]) if variant == "official" else f  # as released
            f = np.exp(f - f.max((1, 2), keepdims=True))  # eq. 2, 3
            f = f / f.sum((1, 2), keepdims=True)
        y[:, :, i, j] = np.einsum("bhw,bchw->bc", f, g)  # eq. 1
    return x + batch_norm(conv(y, w["out.weight"], w["out.bias"]), w, "norm")  # eq. 6


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's NonLocalAttn without its scale, which the equations have not."""
    from timm.layers import NonLocalAttn

    twin, ours = NonLocalAttn(channels, use_scale=False, rd_ratio=1 / 2, rd_divisor=1), module.state_dict()
    names = {"t": "query", "p": "key", "g": "value", "z": "out", "norm": "norm"}
    loaded = {}
    for name in twin.state_dict():
        part, field = name.split(".")
        loaded[name] = ours[f"{names[part]}.{field}"]
    twin.load_state_dict(loaded)
    return twin
