"""Position attention: equations 1 and 2 of Fu et al. 2018 (arXiv 1809.02983)."""

import numpy as np

from equations.numeric import Array, conv, softmax

CASES = ["pam", "pam(reduction=2)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    b, c, d = (conv(x, w[f"{name}.weight"], w[f"{name}.bias"]) for name in ("query", "key", "value"))
    out = np.empty_like(x)
    for i, j in np.ndindex(x.shape[2:]):
        similar = np.einsum("bc,bchw->bhw", b[:, :, i, j], c).reshape(len(x), -1)
        s = softmax(similar, 1).reshape(len(x), *x.shape[2:])  # eq. 1
        out[:, :, i, j] = np.einsum("bhw,bchw->bc", s, d)
    return w["alpha"] * out + x  # eq. 2
