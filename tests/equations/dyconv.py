"""Dynamic convolution: equations 2-4 of Chen et al. 2020 (arXiv 1912.03458)."""

import numpy as np

from equations.numeric import Array, conv, linear, relu, softmax

CASES = ["dyconv", "dyconv(kernels=2, temperature=1.0)"]


def written(w: dict[str, Array], x: Array, kernels: int, temperature: float, **_: object) -> Array:
    z = relu(linear(x.mean((2, 3)), w["attention.0.weight"], w["attention.0.bias"]))
    pi = softmax(linear(z, w["attention.2.weight"], w["attention.2.bias"]) / temperature, 1)  # eq. 4
    stack = w["kernels"].reshape(kernels, x.shape[1], x.shape[1], 3, 3)
    outputs = [conv(x, stack[k], w["biases"][k]) * pi[:, k, None, None, None] for k in range(kernels)]
    return np.sum(outputs, axis=0)  # eq. 2, 3
