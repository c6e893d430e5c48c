"""Style-based recalibration: equations 1-5 of Lee et al. 2019 (arXiv 1903.10829)."""

import numpy as np

from equations.numeric import Array, batch_norm, sigmoid

CASES = ["srm", 'srm(variant="official")']


def written(w: dict[str, Array], x: Array, variant: str, **_: object) -> Array:
    m = x.shape[2] * x.shape[3]
    spread = ((x - x.mean((2, 3), keepdims=True)) ** 2).sum((2, 3))
    spread = spread / (max(1, m - 1) if variant == "official" else m)
    mu, sigma = x.mean((2, 3)), np.sqrt(spread + 1e-5)  # eq. 1, 2
    t = np.stack([mu, sigma], axis=2)  # eq. 3
    z = np.einsum("bcd,cd->bc", t, w["cfc"])  # eq. 4
    return x * sigmoid(batch_norm(z, w, "norm"))[:, :, None, None]  # eq. 5
