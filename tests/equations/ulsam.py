"""Ultra-lightweight subspace attention: equations 3-5 of Saini et al. 2020 (arXiv 2006.15102)."""

import numpy as np

from equations.numeric import Array

CASES = ["ulsam", "ulsam(groups=8)"]


def written(w: dict[str, Array], x: Array, groups: int, **_: object) -> Array:
    out, (height, width) = np.empty_like(x), x.shape[2:]
    for number, part in enumerate(np.split(np.arange(x.shape[1]), groups)):
        f = x[:, part] * w["depthwise.weight"][part, 0]
        padded = np.pad(f, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        shifted = [padded[:, :, i : i + height, j : j + width] for i, j in np.ndindex(3, 3)]
        logits = np.einsum("bchw,c->bhw", np.max(shifted, axis=0), w["point.weight"][number, :, 0, 0])  # eq. 3
        a = np.exp(logits - logits.max((1, 2), keepdims=True))
        a = a / a.sum((1, 2), keepdims=True)
        out[:, part] = a[:, None] * x[:, part] + x[:, part]  # eq. 4, 5
    return out
