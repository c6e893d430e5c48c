"""Multidimensional collaborative attention: Yu et al. 2023 (Eng. Appl. Artif. Intell. 126)."""

import numpy as np

from equations.numeric import Array, conv1d, sigmoid

CASES = ["mca", "mca(kernel=5)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    branches = []
    for name, axis in (("channel", 1), ("row", 2), ("column", 3)):
        lines = np.moveaxis(x, axis, 1).reshape(len(x), x.shape[axis], -1)
        n = lines.shape[2]
        average = lines.sum(2) / n
        deviation = np.sqrt(((lines - average[..., None]) ** 2).sum(2) / max(1, n - 1))
        alpha, beta = sigmoid(w[f"{name}.mix"])  # both between 0 and 1
        squeezed = (average + deviation) / 2 + alpha * average + beta * deviation  # squeeze transformation
        weights = sigmoid(conv1d(squeezed[:, None], w[f"{name}.conv.weight"]))[:, 0]  # excitation transformation
        shape = [len(x), 1, 1, 1]
        shape[axis] = x.shape[axis]
        branches.append(x * weights.reshape(shape))
    return sum(branches) / 3  # integration: simple averaging
