"""Pyramid split attention: equations 1-9 of Zhang et al. 2021 (arXiv 2105.14447)."""

import numpy as np

from equations.numeric import Array, conv, linear, relu, sigmoid, softmax

CASES = ["epsa", 'epsa(variant="official")', "epsa(reduction=2)"]


def written(w: dict[str, Array], x: Array, variant: str, **_: object) -> Array:
    part = x.shape[1] // 4
    f = [conv(x, w[f"convs.{i}.weight"], groups=min(g, part)) for i, g in enumerate((1, 4, 8, 16))]  # eq. 1-3
    z = []
    for i in range(4):  # eq. 4, 5
        hidden = relu(linear(f[i].mean((2, 3)), w[f"gates.{i}.0.weight"], w[f"gates.{i}.0.bias"]))
        z.append(sigmoid(linear(hidden, w[f"gates.{i}.2.weight"], w[f"gates.{i}.2.bias"])))
    att = softmax(np.stack(z), 0)  # eq. 6, 7
    y = [f[i] * att[i][:, :, None, None] for i in range(4)]  # eq. 8
    return np.concatenate(y[::-1] if variant == "official" else y, axis=1)  # eq. 9
