"""Spatial pyramid attention: section 3 of Guo et al. 2020 (ICME)."""

import numpy as np

from equations.numeric import Array, adaptive_mean, linear, relu, sigmoid

CASES = ["spa", "spa(reduction=4)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    levels = [adaptive_mean(x, (n, n)).reshape(len(x), -1) for n in (1, 2, 4)]
    hidden = relu(linear(np.concatenate(levels, axis=1), w["fc.0.weight"], w["fc.0.bias"]))
    return x * sigmoid(linear(hidden, w["fc.2.weight"], w["fc.2.bias"]))[:, :, None, None]
