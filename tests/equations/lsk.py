"""Large selective kernels: equations 3-8 of Li et al. 2023 (arXiv 2303.09030)."""

import numpy as np

from equations.numeric import Array, conv, sigmoid

CASES = ["lsk"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    def layer(z: Array, name: str, **options: int) -> Array:
        return conv(z, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    u_1 = layer(x, "local", groups=x.shape[1])
    u_2 = layer(u_1, "wide", groups=x.shape[1], dilation=3)
    u_1, u_2 = layer(u_1, "from_local"), layer(u_2, "from_wide")  # eq. 3
    u = np.concatenate([u_1, u_2], axis=1)  # eq. 4
    sa = sigmoid(layer(np.stack([u.mean(1), u.max(1)], axis=1), "select"))  # eq. 5, 6
    return x * layer(sa[:, :1] * u_1 + sa[:, 1:] * u_2, "mix")  # eq. 7, 8
