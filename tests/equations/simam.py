"""SimAM: equations 5 and 6 of Yang et al. 2021 (ICML)."""

import numpy as np

from equations.numeric import Array, sigmoid

CASES = ["simam", 'simam(variant="official")', "simam(regularisation=0.1)"]


def written(w: dict[str, Array], x: Array, regularisation: float, variant: str) -> Array:
    out = np.empty_like(x)
    for b, c in np.ndindex(x.shape[:2]):
        t = x[b, c]
        positions = t.size if variant == "paper" else max(1, t.size - 1)
        mu = t.mean()
        sigma2 = ((t - mu) ** 2).sum() / positions
        energy = 4 * (sigma2 + regularisation) / ((t - mu) ** 2 + 2 * sigma2 + 2 * regularisation)  # eq. 5
        out[b, c] = sigmoid(1 / energy) * t  # eq. 6
    return out
