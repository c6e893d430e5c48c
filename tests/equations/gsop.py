"""Global second-order pooling: section 3 of Gao et al. 2019 (arXiv 1811.12006), the block along channels."""

import numpy as np

from equations.numeric import Array, batch_norm, conv, linear, relu, sigmoid

CASES = ["gsop", 'gsop(variant="official")', "gsop(dim=12)"]


def written(w: dict[str, Array], x: Array, variant: str, **_: object) -> Array:
    z = conv(relu(x) if variant == "official" else x, w["reduce.0.weight"])
    z = relu(batch_norm(z, w, "reduce.1"))  # c' reduced channels
    rows = batch_norm(np.stack([np.cov(image.reshape(len(image), -1), bias=True) for image in z]), w, "row_norm")
    kernel, dim = w["row_conv.weight"][:, 0, :, 0], z.shape[1]
    gathered = np.empty((len(x), 4 * dim))
    for row in range(dim):  # row-wise convolution: four outputs of each row, from that row alone
        for output in range(4 * row, 4 * row + 4):
            gathered[:, output] = rows[:, row] @ kernel[output] + w["row_conv.bias"][output]
    if variant == "paper":
        gathered = np.where(gathered > 0, gathered, 0.1 * gathered)
    return x * sigmoid(linear(gathered, w["expand.weight"], w["expand.bias"]))[:, :, None, None]
