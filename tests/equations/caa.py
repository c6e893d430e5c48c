"""Context anchor attention: equations 5-7 of Cai et al. 2024 (arXiv 2403.06258)."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, sigmoid, silu

CASES = ["caa", "caa(kernel=5)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    channels = x.shape[1]
    pooled = conv(x, np.full((channels, 1, 7, 7), 1 / 49), groups=channels)
    f = silu(batch_norm(conv(pooled, w["before.0.weight"]), w, "before.1"))  # eq. 5
    f = conv(f, w["horizontal.weight"], w["horizontal.bias"], groups=channels)  # eq. 6
    f = conv(f, w["vertical.weight"], w["vertical.bias"], groups=channels)
    return x * sigmoid(silu(batch_norm(conv(f, w["behind.0.weight"]), w, "behind.1")))  # eq. 7
