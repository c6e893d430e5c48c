"""Context anchor attention: the equations of Cai et al. 2024 (arXiv 2403.06258), section on the CAA module."""

import numpy as np

from equations.numeric import Array, conv, linear, sigmoid

CASES = ["caa", "caa(kernel=5)"]


def written(w: dict[str, Array], x: Array, kernel: int, **_: object) -> Array:
    def mixed(z: Array, name: str) -> Array:
        return linear(z.transpose(0, 2, 3, 1), w[f"{name}.weight"], w[f"{name}.bias"]).transpose(0, 3, 1, 2)

    def strip(z: Array, name: str, axis: int) -> Array:
        weight, length = w[f"{name}.weight"].reshape(len(w[f"{name}.weight"]), kernel), z.shape[axis]
        room = [(kernel // 2, kernel // 2) if number == axis else (0, 0) for number in range(4)]
        z = np.pad(z, room)
        parts = (np.take(z, range(k, k + length), axis) * weight[:, k, None, None] for k in range(kernel))
        return sum(parts) + w[f"{name}.bias"][:, None, None]

    channels = x.shape[1]
    pooled = conv(x, np.full((channels, 1, 7, 7), 1 / 49), groups=channels)  # averages of 7x7, zeros around
    f_pool = mixed(pooled, "before")
    f_w = strip(f_pool, "horizontal", 3)  # 1 x k
    f_h = strip(f_w, "vertical", 2)  # k x 1
    return x * sigmoid(mixed(f_h, "behind"))  # the attention weights
