"""Double attention: equations 1-6 of Chen et al. 2018 (arXiv 1810.11579)."""

import numpy as np

from equations.numeric import Array, conv, softmax

CASES = ["a2", "a2(reduction=8)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    a, b, v = (conv(x, w[f"{name}.weight"], w[f"{name}.bias"]) for name in ("feature", "attend", "distribute"))
    maps = softmax(b.reshape(*b.shape[:2], -1), 2).reshape(b.shape)
    g = np.einsum("bmhw,bnhw->bmn", a, maps)  # eq. 3, 4: first attention
    z = np.einsum("bmn,bnhw->bmhw", g, softmax(v, 1))  # eq. 5: second attention
    return x + conv(z, w["out.weight"], w["out.bias"])
