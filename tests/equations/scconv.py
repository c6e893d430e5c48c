"""Self-calibrated convolution: equations 2-6 of Liu et al. 2020 (CVPR)."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, sigmoid

CASES = ["scconv", "scconv(pooling=2)"]


def written(w: dict[str, Array], x: Array, pooling: int, **_: object) -> Array:
    def f(z: Array, name: str) -> Array:
        return batch_norm(conv(z, w[f"{name}.0.weight"]), w, f"{name}.1")

    half, (height, width) = x.shape[1] // 2, x.shape[2:]
    x_1, x_2 = x[:, :half], x[:, half:]
    tall, wide = min(pooling, height), min(pooling, width)
    rows, columns = height // tall, width // wide
    t = np.empty((len(x), half, rows, columns))
    for i, j in np.ndindex(rows, columns):  # eq. 2
        t[:, :, i, j] = x_1[:, :, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].mean((2, 3))
    t = f(t, "coarse")
    up = t[:, :, np.arange(height) * rows // height][..., np.arange(width) * columns // width]  # eq. 3
    y_1 = f(f(x_1, "fine") * sigmoid(x_1 + up), "after")  # eq. 4, 5
    return np.concatenate([y_1, conv(x_2, w["plain.weight"])], axis=1)
