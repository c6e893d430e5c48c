"""Axial attention: section 3 of Ho et al. 2019 (arXiv 1912.12180), self-attention along one axis at a time."""

import numpy as np

from equations.numeric import Array, linear, softmax

CASES = ["axial", "axial(heads=2)"]


def written(w: dict[str, Array], x: Array, heads: int, **_: object) -> Array:
    def line(z: Array, name: str) -> Array:
        """z: B N C."""
        q, k, v = np.split(linear(z, w[f"{name}.qkv.weight"]), 3, axis=2)
        out = np.empty_like(z)
        for head in np.split(np.arange(z.shape[2]), heads):
            similar = np.einsum("bic,bjc->bij", q[..., head], k[..., head]) / np.sqrt(len(head))
            out[..., head] = np.einsum("bij,bjc->bic", softmax(similar, 2), v[..., head])
        return linear(out, w[f"{name}.out.weight"], w[f"{name}.out.bias"])

    y = x.copy()
    for i in range(x.shape[2]):
        y[:, :, i] += line(x[:, :, i].transpose(0, 2, 1), "rows").transpose(0, 2, 1)
    for j in range(x.shape[3]):
        y[:, :, :, j] += line(x[:, :, :, j].transpose(0, 2, 1), "columns").transpose(0, 2, 1)
    return y
