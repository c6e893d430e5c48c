"""Concurrent spatial and channel squeeze-and-excitation: Roy et al. 2018 (arXiv 1808.08127), equations 1-4."""

import numpy as np

from equations.numeric import Array, conv, linear, relu, sigmoid

CASES = ["scse", 'scse(merge="add", reduction=8)']


def written(w: dict[str, Array], x: Array, merge: str, **_: object) -> Array:
    z = relu(linear(x.mean((2, 3)), w["channel.0.weight"], w["channel.0.bias"]))
    u_c = x * sigmoid(linear(z, w["channel.2.weight"], w["channel.2.bias"]))[:, :, None, None]
    u_s = x * sigmoid(conv(x, w["spatial.weight"], w["spatial.bias"]))
    return np.where(u_c > u_s, u_c, u_s) if merge == "max" else u_c + u_s
