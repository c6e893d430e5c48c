"""Pyramid squeeze attention: the equations of section 3.2 of Zhang et al. 2021 (arXiv 2105.14447)."""

import numpy as np

from equations.numeric import Array, conv, relu, sigmoid

CASES = [
    "epsa",
    'epsa(variant="official")',
    "epsa(kernels=(3, 7), groups=(2, 4), reduction=4)",
]


def written(
    w: dict[str, Array], x: Array, kernels: tuple[int, ...], groups: tuple[int, ...], variant: str, **_: object
) -> Array:
    width = x.shape[1] // len(kernels)  # C' = C / S

    def se_weight(f: Array) -> Array:  # squeeze-and-excitation, one for all scales
        g = f.mean((2, 3))
        hidden = relu(g @ w["weigh.0.weight"].T + w["weigh.0.bias"])
        return sigmoid(hidden @ w["weigh.2.weight"].T + w["weigh.2.bias"])

    f = []
    for i, (kernel, parts) in enumerate(zip(kernels, groups, strict=True)):
        parts = min(parts, width)  # the widths tested are powers of two
        f.append(conv(x, w[f"split.{i}.weight"], padding=kernel // 2, groups=parts))  # F_i = Conv(k_i, G_i)(X)
    z = [np.exp(se_weight(part)) for part in f]  # Z_i = SEWeight(F_i)
    att = [part / sum(z) for part in z]  # att_i = Softmax(Z_i): over the scales
    y = [part * weight[:, :, None, None] for part, weight in zip(f, att, strict=True)]  # Y_i = F_i * att_i
    if variant == "official":  # the last scale comes first
        y.reverse()
    return np.concatenate(y, axis=1)  # Out = Cat(Y_0, ..., Y_S-1)
