"""External attention: equations 5-7 of Guo et al. 2021 (arXiv 2105.02358), with the double normalisation."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, relu

CASES = ["external", "external(memory=8)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    f = conv(x, w["query.weight"], w["query.bias"])
    a = conv(f, w["keys.weight"])  # eq. 5
    a = np.exp(a - a.max((2, 3), keepdims=True))
    a = a / a.sum((2, 3), keepdims=True)  # eq. 6
    a = a / (1e-9 + a.sum(1, keepdims=True))  # eq. 7
    out = conv(a, w["values.weight"])
    return relu(batch_norm(conv(out, w["out.0.weight"]), w, "out.1") + x)
