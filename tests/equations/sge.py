"""Spatial group-wise enhance: equations 1-5 of Li et al. 2019 (arXiv 1905.09646)."""

import numpy as np

from equations.numeric import Array, sigmoid

CASES = ["sge", 'sge(variant="official")', "sge(groups=8)", 'sge(groups=5, variant="official")']


def written(w: dict[str, Array], x: Array, variant: str, **_: object) -> Array:
    groups, out = len(w["weight"]), np.empty_like(x)
    per_group = x.shape[1] // groups
    for b, k in np.ndindex(len(x), groups):
        part = slice(k * per_group, (k + 1) * per_group)
        vectors = x[b, part].reshape(per_group, -1).T  # one x_i per position
        m = len(vectors)
        g = sum(vectors) / m  # eq. 1: the group's semantic vector
        c = np.array([g @ x_i for x_i in vectors])  # eq. 2
        mu = c.sum() / m
        sigma = np.sqrt(((c - mu) ** 2).sum() / (m if variant == "paper" else max(1, m - 1)))
        c_hat = (c - mu) / (sigma + 1e-5)  # eq. 3
        a = w["weight"][k] * c_hat + w["bias"][k]  # eq. 4
        enhanced = vectors * sigmoid(a)[:, None]  # eq. 5
        out[b, part] = enhanced.T.reshape(per_group, *x.shape[2:])
    return out
