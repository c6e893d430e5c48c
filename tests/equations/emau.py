"""Expectation-maximisation attention: equations 10-14 of Li et al. 2019 (arXiv 1907.13426)."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, relu, softmax

CASES = ["emau", "emau(bases=4, steps=2)"]


def written(w: dict[str, Array], x: Array, steps: int, **_: object) -> Array:
    f = conv(x, w["into.weight"], w["into.bias"])
    out = np.empty_like(x)
    for b in range(len(x)):
        points, mu = f[b].reshape(x.shape[1], -1).T, w["bases"][0].T  # N C, K C
        for _step in range(steps):
            z = softmax(points @ mu.T, 1)  # eq. 11: responsibilities
            mu = (z / (1e-6 + z.sum(0))).T @ points  # eq. 12: likelihood maximisation
            mu = mu / np.linalg.norm(mu, axis=1, keepdims=True)
        out[b] = (z @ mu).T.reshape(x.shape[1:])  # eq. 14: data re-estimation
    return relu(batch_norm(conv(relu(out), w["out.0.weight"]), w, "out.1") + x)
