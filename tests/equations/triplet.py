"""Triplet attention: equations 1-4 of Misra et al. 2020 (arXiv 2010.03045)."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, sigmoid

CASES = ["triplet", "triplet(kernel=3)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    def branch(rotated: Array, name: str) -> Array:
        z = np.concatenate([rotated.max(1, keepdims=True), rotated.mean(1, keepdims=True)], axis=1)  # eq. 1
        return rotated * sigmoid(batch_norm(conv(z, w[f"branches.{name}.0.weight"]), w, f"branches.{name}.1"))

    first = branch(x.transpose(0, 2, 1, 3), "cw").transpose(0, 2, 1, 3)  # B H C W
    second = branch(x.transpose(0, 3, 2, 1), "hc").transpose(0, 3, 2, 1)  # B W H C
    return (first + second + branch(x, "hw")) / 3  # eq. 4
