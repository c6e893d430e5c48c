"""Gather-excite: Hu et al. 2018 (arXiv 1810.12348), section 2, and section 3 for the three kinds of gathering."""

import numpy as np
from torch import nn

from equations.numeric import Array, adaptive_mean, batch_norm, conv, linear, relu, sigmoid

CASES = [
    "ge",
    "ge(extent=4)",
    "ge(extent=2)",
    'ge(theta="plain")',
    'ge(theta="plain", extent=4)',
    'ge(theta="plus", reduction=4)',
    'ge(theta="plus", extent=8)',
]
WITNESSED = "ge(extent=4)"


def written(w: dict[str, Array], x: Array, extent: int, theta: str, **_: object) -> Array:
    gathered = averaged(x, extent) if theta == "minus" else convolved(w, x, extent)
    if theta == "plus":
        z = relu(gathered).transpose(0, 2, 3, 1)
        z = linear(relu(linear(z, w["mlp.1.weight"], w["mlp.1.bias"])), w["mlp.3.weight"], w["mlp.3.bias"])
        gathered = z.transpose(0, 3, 1, 2)
    (rows, columns), (height, width) = gathered.shape[2:], x.shape[2:]
    out = np.empty_like(x)
    for i, j in np.ndindex(height, width):  # excite: x * sigmoid(interp(gathered)), by nearest neighbours
        out[:, :, i, j] = x[:, :, i, j] * sigmoid(gathered[:, :, i * rows // height, j * columns // width])
    return out


def averaged(x: Array, extent: int) -> Array:
    """Theta-minus: means over the positions extent * u + delta, |delta| <= (2 extent - 1) // 2."""
    if extent == 0:
        return x.mean((2, 3), keepdims=True)
    height, width = x.shape[2:]
    out = np.empty((*x.shape[:2], -(-height // extent), -(-width // extent)))
    for u, v in np.ndindex(out.shape[2:]):
        top, left = max(0, extent * (u - 1) + 1), max(0, extent * (v - 1) + 1)
        out[:, :, u, v] = x[:, :, top : extent * (u + 1), left : extent * (v + 1)].mean((2, 3))
    return out


def convolved(w: dict[str, Array], x: Array, extent: int) -> Array:
    """Theta: a depthwise convolution of the map's size, or log2(extent) of 3x3 with stride 2."""
    if extent == 0:
        kernel = w["gather.conv.weight"][:, 0]
        total = (adaptive_mean(x, kernel.shape[1:]) * kernel).sum((2, 3), keepdims=True)
        return batch_norm(total, w, "gather.norm")
    steps = extent.bit_length() - 1
    for step in range(steps):
        x = conv(x, w[f"gather.{3 * step}.weight"], stride=2, padding=1, groups=x.shape[1])
        x = batch_norm(x, w, f"gather.{3 * step + 1}")
        x = relu(x) if step < steps - 1 else x
    return x


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's GatherExcite; its form with parameters cannot be constructed, so the form without is the witness."""
    from timm.layers import GatherExcite

    return GatherExcite(channels, extent=4, use_mlp=False)
