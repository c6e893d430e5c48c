"""Self-attention network: equations 2-5 of Zhao et al. 2020 (arXiv 2004.13621), the mapping and border as released."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, relu, softmax

CASES = ["san", 'san(form="patchwise", kernel=3)', "san(kernel=3, reduction=8, shared=4)"]


def written(w: dict[str, Array], x: Array, form: str, kernel: int, shared: int, **_: object) -> Array:
    (height, width), half, groups = x.shape[2:], kernel // 2, x.shape[1] // shared
    phi, psi, beta = (conv(x, w[f"{name}.weight"], w[f"{name}.bias"]) for name in ("phi", "psi", "beta"))

    def gamma(relation: Array) -> Array:
        hidden = conv(relu(batch_norm(relation, w, "gamma.0")), w["gamma.2.weight"])
        return conv(relu(batch_norm(hidden, w, "gamma.3")), w["gamma.5.weight"], w["gamma.5.bias"])

    def around(maps: Array, i: int, j: int) -> Array:
        edges = ((0, 0), (0, 0), (half, half), (half, half))
        return np.pad(maps, edges, mode="reflect")[:, :, i : i + kernel, j : j + kernel]

    p = np.stack(np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height)))[None]  # section 3.1: position
    p = conv(p, w["place.weight"], w["place.bias"]) if "place.weight" in w else p
    y = np.zeros_like(x)
    for i, j in np.ndindex(height, width):
        if form == "pairwise":
            delta = phi[:, :, i : i + 1, j : j + 1] - around(psi, i, j)  # eq. 3: subtraction
            apart = np.repeat(p[:, :, i : i + 1, j : j + 1] - around(p, i, j), len(x), axis=0)
            scores = gamma(np.concatenate([delta, apart], axis=1)).reshape(len(x), groups, -1)
            alpha = softmax(scores, 2)
        else:
            patch = [phi[:, :, i, j], around(psi, i, j).reshape(len(x), -1)]  # eq. 5: concatenation
            alpha = gamma(np.concatenate(patch, axis=1)[:, :, None, None])
        alpha = alpha.reshape(len(x), groups, kernel, kernel)
        for c in range(x.shape[1]):  # eq. 2 and 4
            y[:, c, i, j] = (alpha[:, c % groups] * around(beta[:, c : c + 1], i, j)[:, 0]).sum((1, 2))
    return y
