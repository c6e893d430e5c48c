"""Involution: equations 4-6 of Li et al. 2021 (arXiv 2103.06255)."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, relu

CASES = ["involution", "involution(kernel=3, group_channels=4)"]


def written(w: dict[str, Array], x: Array, kernel: int, group_channels: int, **_: object) -> Array:
    channels, (height, width), half = x.shape[1], x.shape[2:], kernel // 2
    groups = channels // group_channels
    hidden = relu(batch_norm(conv(x, w["reduce.0.weight"]), w, "reduce.1"))
    h = conv(hidden, w["span.weight"], w["span.bias"])  # eq. 6
    h = h.reshape(len(x), groups, kernel, kernel, height, width)
    padded = np.pad(x, ((0, 0), (0, 0), (half, half), (half, half)))
    out = np.zeros_like(x)
    for c in range(channels):
        for u, v in np.ndindex(kernel, kernel):  # eq. 4
            out[:, c] += h[:, c * groups // channels, u, v] * padded[:, c, u : u + height, v : v + width]
    return out
