"""Criss-cross attention: equations 1 and 2 of Huang et al. 2018 (arXiv 1811.11721)."""

import numpy as np

from equations.numeric import Array, conv, softmax

CASES = ["cca", "cca(recurrence=1, reduction=2)"]


def written(w: dict[str, Array], x: Array, recurrence: int, **_: object) -> Array:
    for _step in range(recurrence):
        q, k, v = (conv(x, w[f"{name}.weight"], w[f"{name}.bias"]) for name in ("query", "key", "value"))
        out = np.empty_like(x)
        for i, j in np.ndindex(x.shape[2:]):
            cross = [(a, j) for a in range(x.shape[2]) if a != i] + [(i, b) for b in range(x.shape[3])]
            rows, columns = (list(each) for each in zip(*cross, strict=True))
            d = np.einsum("bc,bcn->bn", q[:, :, i, j], k[:, :, rows, columns])  # eq. 1
            out[:, :, i, j] = np.einsum("bn,bcn->bc", softmax(d, 1), v[:, :, rows, columns])
        x = w["gamma"] * out + x  # eq. 2
    return x
