"""Second-order channel attention: section 3.3 of Dai et al. 2019 (CVPR)."""

import numpy as np

from equations.numeric import Array, linear, relu, sigmoid

CASES = ["soca", "soca(reduction=4, iterations=3)", "soca(iterations=1)"]


def written(w: dict[str, Array], x: Array, iterations: int, **_: object) -> Array:
    out, channels = np.empty_like(x), x.shape[1]
    for b, image in enumerate(x):
        features = image.reshape(channels, -1)
        count = features.shape[1]
        centring = (np.eye(count) - np.ones((count, count)) / count) / count
        sigma = features @ centring @ features.T  # the covariance matrix
        trace = max(np.trace(sigma), 1e-12)
        y, z = sigma / trace, np.eye(channels)  # pre-normalisation
        for _step in range(iterations):  # Newton-Schulz
            y, z = y @ (3 * np.eye(channels) - z @ y) / 2, (3 * np.eye(channels) - z @ y) @ z / 2
        y = np.sqrt(trace) * y  # post-compensation
        statistics = np.array([row.sum() / channels for row in y])  # global covariance pooling
        hidden = relu(linear(statistics, w["fc.0.weight"], w["fc.0.bias"]))
        out[b] = image * sigmoid(linear(hidden, w["fc.2.weight"], w["fc.2.bias"]))[:, None, None]
    return out
