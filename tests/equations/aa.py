"""Attention augmented convolution: equations 1-6 of Bello et al. 2019 (arXiv 1904.09925)."""

import numpy as np

from equations.numeric import Array, conv, softmax

CASES = ["aa", "aa(reduction=2, heads=2)"]


def written(w: dict[str, Array], x: Array, reduction: int, heads: int, **_: object) -> Array:
    height, width = x.shape[2:]
    attended = x.shape[1] // reduction
    q, k, v = np.split(conv(x, w["qkv.weight"], w["qkv.bias"]), 3, axis=1)
    o = np.empty_like(v)
    for head in np.split(np.arange(attended), min(heads, attended)):
        for i, j in np.ndindex(height, width):
            logits = np.empty((len(x), height, width))
            for a, b in np.ndindex(height, width):  # eq. 3: content, horizontal and vertical position
                r_h, r_w = w["positions.rows"][a - i + height - 1], w["positions.columns"][b - j + width - 1]
                key = k[:, head, a, b] + r_w + r_h
                logits[:, a, b] = np.einsum("bc,bc->b", q[:, head, i, j], key) / np.sqrt(len(head))
            weights = softmax(logits.reshape(len(x), -1), 1).reshape(logits.shape)
            o[:, head, i, j] = np.einsum("bhw,bchw->bc", weights, v[:, head])  # eq. 1
    mha = conv(o, w["out.weight"], w["out.bias"])  # eq. 2
    return np.concatenate([conv(x, w["conv.weight"], w["conv.bias"]), mha], axis=1)  # eq. 6
