"""Gaussian context transformer: equations 2-6 of Ruan et al. 2021 (CVPR)."""

import numpy as np

from equations.numeric import Array

CASES = ["gct_gauss", "gct_gauss(c=0.5)"]


def written(w: dict[str, Array], x: Array, c: float, epsilon: float, **_: object) -> Array:
    z = x.mean((2, 3))
    z_hat = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + epsilon)
    return x * np.exp(-(z_hat**2) / (2 * c**2))[:, :, None, None]
