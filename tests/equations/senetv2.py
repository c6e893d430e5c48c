"""SENetV2: equation 4 of Narayanan 2023 (arXiv 2311.10807)."""

import numpy as np

from equations.numeric import Array, linear, relu, sigmoid

CASES = ["senetv2", "senetv2(branches=2, reduction=4)"]


def written(w: dict[str, Array], x: Array, branches: int, **_: object) -> Array:
    z = x.mean((2, 3))
    f = np.concatenate([relu(linear(z, w[f"branches.{i}.weight"])) for i in range(branches)], axis=1)
    return x * sigmoid(linear(f, w["excite.weight"]))[:, :, None, None]
