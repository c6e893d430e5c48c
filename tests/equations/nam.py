"""Normalisation-based attention: equations 1 and 2 of Liu et al. 2021 (arXiv 2111.12419)."""

import numpy as np

from equations.numeric import Array, batch_norm, sigmoid

CASES = ["nam", 'nam(variant="official")']


def written(w: dict[str, Array], x: Array, variant: str) -> Array:
    gamma = w["norm.weight"] if variant == "paper" else np.abs(w["norm.weight"])
    out, normed = np.empty_like(x), batch_norm(x, w, "norm")  # eq. 1
    for c in range(x.shape[1]):
        out[:, c] = x[:, c] * sigmoid(gamma[c] / gamma.sum() * normed[:, c])  # eq. 2
    return out
