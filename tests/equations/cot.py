"""Contextual transformer: equations 2-5 of Li et al. 2021 (arXiv 2107.12292), norms and fusion as released."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, group_norm, linear, relu, silu, softmax

CASES = ["cot", "cot(shared=4)"]


def written(w: dict[str, Array], x: Array, shared: int, **_: object) -> Array:
    channels, (height, width) = x.shape[1], x.shape[2:]
    different = channels // shared
    k_1 = relu(batch_norm(conv(x, w["context.0.weight"], groups=4), w, "context.1"))  # the static context
    a = relu(batch_norm(conv(np.concatenate([x, k_1], axis=1), w["embed.0.weight"]), w, "embed.1"))  # eq. 4
    a = group_norm(conv(a, w["embed.3.weight"], w["embed.3.bias"]), different, w, "embed.4")
    a = a.reshape(len(x), different, 3, 3, height, width)
    v = batch_norm(conv(x, w["value.0.weight"]), w, "value.1")
    v = np.pad(v, ((0, 0), (0, 0), (1, 1), (1, 1)))
    k_2 = np.zeros_like(x)
    for c in range(channels):
        for i, j in np.ndindex(3, 3):  # eq. 5: local matrix multiplication
            k_2[:, c] += a[:, c % different, i, j] * v[:, c, i : i + height, j : j + width]
    k_2 = silu(batch_norm(k_2, w, "norm.0"))
    z = linear((k_1 + k_2).mean((2, 3)), w["fuse.0.weight"], w["fuse.0.bias"])
    z = linear(relu(batch_norm(z, w, "fuse.1")), w["fuse.3.weight"], w["fuse.3.bias"]).reshape(len(x), channels, 2)
    shares = softmax(z, 2)[..., None, None]
    return k_2 * shares[:, :, 0] + k_1 * shares[:, :, 1]
