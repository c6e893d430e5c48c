"""Polarized self-attention: equations 1-5 of Liu et al. 2021 (arXiv 2107.00782)."""

import numpy as np

from equations.numeric import Array, conv, layer_norm, linear, sigmoid, softmax

CASES = ["polarized", 'polarized(arrangement="sequential")']


def written(w: dict[str, Array], x: Array, arrangement: str, **_: object) -> Array:
    def channel(z: Array) -> Array:  # eq. 1
        q = conv(z, w["channel_query.weight"])[:, 0]
        q = np.exp(q - q.max((1, 2), keepdims=True))
        q = q / q.sum((1, 2), keepdims=True)
        pooled = np.einsum("bhw,bchw->bc", q, conv(z, w["channel_value.weight"]))
        logits = layer_norm(linear(pooled, w["channel_out.weight"]), w["norm.weight"], w["norm.bias"])
        return sigmoid(logits)[:, :, None, None]

    def spatial(z: Array) -> Array:  # eq. 2
        q = softmax(conv(z, w["spatial_query.weight"]).mean((2, 3)), 1)
        return sigmoid(np.einsum("bc,bchw->bhw", q, conv(z, w["spatial_value.weight"])))[:, None]

    if arrangement == "parallel":
        return channel(x) * x + spatial(x) * x  # eq. 4
    z = channel(x) * x
    return spatial(z) * z  # eq. 5
