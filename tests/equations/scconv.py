"""Self-calibrated convolution: equations 1-5 of Liu et al. 2020 (CVPR)."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, relu, sigmoid

CASES = ["scconv", 'scconv(variant="official")', "scconv(pooling=2)", 'scconv(variant="official", pooling=3)']


def written(w: dict[str, Array], x: Array, pooling: int, variant: str, **_: object) -> Array:
    official = variant == "official"
    (height, width), half = x.shape[2:], x.shape[1] // 2
    x1, x2 = x[:, :half], x[:, half:]

    def k(number: int, z: Array) -> Array:  # K_number, with a batch norm behind it as released
        z = conv(z, w[f"k{number}.0.weight"])
        z = batch_norm(z, w, f"k{number}.1") if official else z
        return relu(z) if official and number in (1, 4) else z

    down, across = min(pooling, height), min(pooling, width)
    t1 = np.zeros((*x1.shape[:2], height // down, width // across))
    for i, j in np.ndindex(t1.shape[2:]):  # eq. 2
        t1[:, :, i, j] = x1[:, :, i * down : (i + 1) * down, j * across : (j + 1) * across].mean((2, 3))
    low = k(2, t1)
    up = np.zeros_like(x1)
    for i, j in np.ndindex(height, width):  # eq. 3
        up[:, :, i, j] = sampled(low, i / height, j / width, 1 / height, 1 / width, official)
    y1 = k(4, k(3, x1) * sigmoid(x1 + up))  # eq. 4, 5
    return np.concatenate([y1, k(1, x2)], axis=1)


def sampled(low: Array, top: float, left: float, tall: float, wide: float, nearest: bool) -> Array:
    """The value of a map at the pixel whose corner is (top, left), as parts of the map's sides."""
    height, width = low.shape[2:]
    if nearest:
        return low[:, :, int(top * height + 1e-9), int(left * width + 1e-9)]
    y = min(max((top + tall / 2) * height - 0.5, 0.0), height - 1.0)  # pixels' centres lie at halves
    x = min(max((left + wide / 2) * width - 0.5, 0.0), width - 1.0)
    i, j = int(y), int(x)
    below, right = min(i + 1, height - 1), min(j + 1, width - 1)
    upper = (1 - x + j) * low[:, :, i, j] + (x - j) * low[:, :, i, right]
    lower = (1 - x + j) * low[:, :, below, j] + (x - j) * low[:, :, below, right]
    return (1 - y + i) * upper + (y - i) * lower
