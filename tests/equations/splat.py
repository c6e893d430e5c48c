"""Split attention: equations 1 and 2 of Zhang et al. 2020 (arXiv 2004.08955)."""

import numpy as np
from torch import nn

from equations.numeric import Array, batch_norm, conv, relu, sigmoid

CASES = ["splat", "splat(radix=1)", "splat(radix=3, cardinality=4)", "splat(cardinality=2)"]


def written(w: dict[str, Array], x: Array, radix: int, cardinality: int, **_: object) -> Array:
    channels = x.shape[1]
    groups = cardinality * radix if channels % (cardinality * radix) == 0 else cardinality
    both = relu(batch_norm(conv(x, w["conv.weight"], groups=groups), w, "norm.0"))
    u = [both[:, r * channels : (r + 1) * channels] for r in range(radix)]
    s = np.sum(u, axis=0).mean((2, 3), keepdims=True)  # eq. 1
    z = conv(s, w["attention.0.weight"], w["attention.0.bias"], groups=cardinality)
    z = relu(batch_norm(z, w, "attention.1"))
    logits = conv(z, w["attention.3.weight"], w["attention.3.bias"], groups=cardinality)[:, :, 0, 0]
    per = channels // cardinality
    out = np.zeros_like(x)
    for k in range(cardinality):
        block = logits[:, k * per * radix : (k + 1) * per * radix].reshape(len(x), radix, per)
        a = np.exp(block) / np.exp(block).sum(1, keepdims=True) if radix > 1 else sigmoid(block)  # eq. 2
        for r in range(radix):
            here = slice(k * per, (k + 1) * per)
            out[:, here] += a[:, r, :, None, None] * u[r][:, here]
    return out


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's SplitAttn."""
    from timm.layers import SplitAttn

    twin = SplitAttn(channels, channels, radix=2, rd_channels=16, norm_layer=nn.BatchNorm2d)
    names = {"conv": "conv", "norm.0": "bn0", "attention.0": "fc1", "attention.1": "bn1", "attention.3": "fc2"}
    loaded = {}
    for name, value in module.state_dict().items():
        part, field = name.rsplit(".", 1)
        loaded[f"{names[part]}.{field}"] = value
    twin.load_state_dict(loaded)
    return twin
