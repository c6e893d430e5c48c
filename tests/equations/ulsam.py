"""Ultra-lightweight subspace attention: equations 3-5 of Saini et al. 2020 (arXiv 2006.15102)."""

import numpy as np

from equations.numeric import Array, batch_norm, relu

CASES = ["ulsam", "ulsam(groups=8)", 'ulsam(variant="official")']


def written(w: dict[str, Array], x: Array, groups: int, variant: str, **_: object) -> Array:
    official = variant == "official"  # as released
    (height, width), parts = x.shape[2:], np.split(np.arange(x.shape[1]), groups)
    f = x * w["depthwise.0.weight" if official else "depthwise.weight"].reshape(-1, 1, 1)
    f = relu(batch_norm(f, w, "depthwise.1")) if official else f
    padded = np.pad(f, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    f = np.max([padded[:, :, i : i + height, j : j + width] for i, j in np.ndindex(3, 3)], axis=0)
    points = w["point.weight"].reshape(groups, -1)
    logits = [np.einsum("bchw,c->bhw", f[:, part], point) for part, point in zip(parts, points, strict=True)]
    maps = np.stack(logits, axis=1)
    a = np.exp(relu(batch_norm(maps, w, "behind.0")) if official else maps)  # eq. 3: one map for each subspace
    a = a / a.sum((2, 3), keepdims=True)
    out = [a[:, [number]] * x[:, part] + x[:, part] for number, part in enumerate(parts)]  # eq. 4
    return np.concatenate(out, axis=1)  # eq. 5
