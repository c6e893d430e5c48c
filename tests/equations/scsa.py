"""Spatial and channel synergistic attention: equations 1-11 of Si et al. 2024 (arXiv 2407.05128)."""

import numpy as np

from equations.numeric import Array, conv1d, group_norm, sigmoid, softmax

CASES = ["scsa", "scsa(heads=8)", "scsa(heads=2, window=3)"]


def written(w: dict[str, Array], x: Array, heads: int, window: int, **_: object) -> Array:
    channels = x.shape[1]
    quarter = channels // 4

    def scales(z: Array) -> Array:
        parts = [z[:, i * quarter : (i + 1) * quarter] for i in range(4)]
        mixed = [conv1d(p, w[f"strips.{i}.weight"], w[f"strips.{i}.bias"], groups=quarter) for i, p in enumerate(parts)]
        return np.concatenate(mixed, axis=1)

    rows = sigmoid(group_norm(scales(x.mean(3)), 4, w, "norm_rows"))
    columns = sigmoid(group_norm(scales(x.mean(2)), 4, w, "norm_columns"))
    x = x * rows[:, :, :, None] * columns[:, :, None, :]
    tall, wide = min(window, x.shape[2]), min(window, x.shape[3])
    pooled = np.stack(
        [
            x[:, :, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].mean((2, 3))
            for i in range(x.shape[2] // tall)
            for j in range(x.shape[3] // wide)
        ],
        axis=2,
    )
    pooled = group_norm(pooled, 1, w, "norm")
    q, k, v = (pooled * w[f"{name}.weight"].reshape(1, -1, 1) for name in ("query", "key", "value"))
    gate = np.empty((len(x), channels))
    for head in np.split(np.arange(channels), heads):
        similar = np.einsum("bcn,bdn->bcd", q[:, head], k[:, head]) / np.sqrt(len(head))
        gate[:, head] = np.einsum("bcd,bdn->bcn", softmax(similar, 2), v[:, head]).mean(2)
    return x * sigmoid(gate)[:, :, None, None]
