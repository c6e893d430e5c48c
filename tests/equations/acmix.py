"""ACmix: section 4 of Pan et al. 2022 (arXiv 2111.14556), positions and border as released."""

import numpy as np

from equations.numeric import Array, conv, softmax

CASES = ["acmix", "acmix(window=3, heads=2, kernel=5)", "acmix(heads=8, mix=0.25)"]


def written(w: dict[str, Array], x: Array, window: int, heads: int, kernel: int, **_: object) -> Array:
    channels, (height, width), half = x.shape[1], x.shape[2:], window // 2
    depth, edges = channels // heads, ((0, 0), (0, 0), (half, half), (half, half))
    q, k, v = (conv(x, w[f"{name}.weight"], w[f"{name}.bias"]) for name in ("query", "key", "value"))  # stage 1
    p = np.stack(np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height)))[None]
    p = conv(p, w["place.weight"], w["place.bias"])[0]
    k_pad, v_pad = (np.pad(maps, edges, mode="reflect") for maps in (k, v))
    p_pad = np.pad(p, edges[1:], mode="reflect")
    f_att, f_conv = np.empty_like(x), np.zeros_like(x)
    for n in range(heads):  # stage 2: attention in the local window of each position
        own = slice(n * depth, (n + 1) * depth)
        for i, j in np.ndindex(height, width):
            rows, columns = slice(i, i + window), slice(j, j + window)
            keys = k_pad[:, own, rows, columns] + p[:, i, j][:, None, None] - p_pad[:, rows, columns]
            logits = np.einsum("bc,bcuv->buv", q[:, own, i, j], keys) / np.sqrt(depth)
            a = softmax(logits.reshape(len(x), -1), 1).reshape(logits.shape)
            f_att[:, own, i, j] = np.einsum("buv,bcuv->bc", a, v_pad[:, own, rows, columns])
    for d in range(depth):  # stage 2: the d-th maps of all heads make kernel**2 maps, which are shifted and added
        pieces = np.concatenate([maps[:, d::depth] for maps in (q, k, v)], axis=1)
        f = conv(pieces, w["expand.weight"])
        own = slice(d * heads, (d + 1) * heads)
        f_conv[:, own] = conv(f, w["shift.weight"][own])
    return w["attended"] * f_att + w["convolved"] * f_conv  # the paths added
