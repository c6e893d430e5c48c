"""S2-MLPv2's spatial shift and split attention, of Yu et al. 2021 (arXiv 2108.01072)."""

import numpy as np

from equations.numeric import Array, conv, gelu, linear, softmax

CASES = ["s2", "s2(reduction=4)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    c = x.shape[1]
    expanded = conv(x, w["expand.weight"], w["expand.bias"])
    x_1, x_2, x_3 = (expanded[:, k * c : (k + 1) * c].copy() for k in range(3))
    old_1, old_2, (a, b, d) = x_1.copy(), x_2.copy(), (c // 4, c // 2, c * 3 // 4)
    x_1[:, :a, 1:], x_1[:, a:b, :-1] = old_1[:, :a, :-1], old_1[:, a:b, 1:]  # the first kind of spatial shift
    x_1[:, b:d, :, 1:], x_1[:, d:, :, :-1] = old_1[:, b:d, :, :-1], old_1[:, d:, :, 1:]
    x_2[:, :a, :, 1:], x_2[:, a:b, :, :-1] = old_2[:, :a, :, :-1], old_2[:, a:b, :, 1:]  # and the other
    x_2[:, b:d, 1:], x_2[:, d:, :-1] = old_2[:, b:d, :-1], old_2[:, d:, 1:]
    pooled = sum(part.sum((2, 3)) for part in (x_1, x_2, x_3))  # split attention: over parts and positions
    a_hat = linear(gelu(linear(pooled, w["split.0.weight"])), w["split.2.weight"])
    a_bar = softmax(a_hat.reshape(len(x), 3, c), 1)[..., None, None]
    mixed = np.zeros_like(x)
    for k, part in enumerate((x_1, x_2, x_3)):
        mixed += a_bar[:, k] * part
    return conv(mixed, w["project.weight"], w["project.bias"])
