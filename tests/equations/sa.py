"""Shuffle attention: equations 1-4 of Zhang and Yang 2021 (arXiv 2102.00240)."""

import numpy as np

from equations.numeric import Array, sigmoid

CASES = ["sa", "sa(groups=4)"]


def written(w: dict[str, Array], x: Array, groups: int, **_: object) -> Array:
    channels = x.shape[1]
    groups = min(groups, channels // 2)
    half = channels // 2 // groups
    gated = np.empty_like(x)
    for g in range(groups):
        for c in range(half):
            first, second = g * 2 * half + c, g * 2 * half + half + c
            s = x[:, first].mean((1, 2), keepdims=True)  # eq. 1
            logit = w["channel_weight"][0, c, 0, 0] * s + w["channel_bias"][0, c, 0, 0]
            gated[:, first] = x[:, first] * sigmoid(logit)  # eq. 2
            z = x[:, second]
            z = (z - z.mean((1, 2), keepdims=True)) / np.sqrt(z.var((1, 2), keepdims=True) + 1e-5)
            z = z * w["norm.weight"][c] + w["norm.bias"][c]
            logit = w["spatial_weight"][0, c, 0, 0] * z + w["spatial_bias"][0, c, 0, 0]
            gated[:, second] = x[:, second] * sigmoid(logit)  # eq. 3
    order = [half_of * (channels // 2) + c for c in range(channels // 2) for half_of in range(2)]
    return gated[:, order]  # channel shuffle with two groups
