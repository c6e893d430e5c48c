"""Polarized self-attention: equations 1-5 of Liu et al. 2021 (arXiv 2107.00782)."""

import numpy as np

from equations.numeric import Array, conv, layer_norm, linear, relu, sigmoid, softmax

CASES = [
    "polarized",
    'polarized(arrangement="sequential")',
    'polarized(variant="official")',
    'polarized(arrangement="sequential", variant="official")',
]


def written(w: dict[str, Array], x: Array, arrangement: str, variant: str) -> Array:
    def channel(z: Array) -> Array:  # eq. 1
        q = over_positions(conv(z, w["channel_query.weight"])[:, 0])
        pooled = np.einsum("bhw,bchw->bc", q, conv(z, w["channel_value.weight"]))
        if variant == "paper":
            logits = layer_norm(linear(pooled, w["channel_out.weight"]), w["norm.weight"], w["norm.bias"])
        elif arrangement == "parallel":  # as released
            logits = linear(pooled, w["channel_out.weight"])
        else:
            hidden = linear(pooled, w["channel_out.0.weight"], w["channel_out.0.bias"])
            hidden = layer_norm(hidden, w["channel_out.1.weight"].ravel(), w["channel_out.1.bias"].ravel())
            logits = linear(relu(hidden), w["channel_out.3.weight"], w["channel_out.3.bias"])
        return sigmoid(logits)[:, :, None, None]

    def spatial(z: Array) -> Array:  # eq. 2
        q, v = conv(z, w["spatial_query.weight"]).mean((2, 3)), conv(z, w["spatial_value.weight"])
        if variant == "paper":
            return sigmoid(np.einsum("bc,bchw->bhw", softmax(q, 1), v))[:, None]
        if arrangement == "parallel":  # as released
            return sigmoid(over_positions(np.einsum("bc,bchw->bhw", q, v)))[:, None]
        return sigmoid(np.einsum("bc,bchw->bhw", q, over_positions(v)))[:, None]

    def over_positions(z: Array) -> Array:
        raised = np.exp(z - z.max((-2, -1), keepdims=True))
        return raised / raised.sum((-2, -1), keepdims=True)

    if arrangement == "parallel":
        return channel(x) * x + spatial(x) * x  # eq. 4
    z = channel(x) * x
    return spatial(z) * z  # eq. 5
