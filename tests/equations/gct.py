"""Gated channel transformation: equations 1-5 of Yang et al. 2019 (arXiv 1909.11519)."""

import numpy as np

from equations.numeric import Array

CASES = ["gct", "gct(epsilon=0.01)"]


def written(w: dict[str, Array], x: Array, epsilon: float, **_: object) -> Array:
    channels = x.shape[1]
    alpha, gamma, beta = (w[name].reshape(1, channels) for name in ("alpha", "gamma", "beta"))
    s = alpha * np.sqrt(np.einsum("bchw,bchw->bc", x, x) + epsilon)  # eq. 2
    s_hat = np.sqrt(channels) * s / np.sqrt((s**2).sum(1, keepdims=True) + channels * epsilon)  # eq. 3
    return x * (1 + np.tanh(gamma * s_hat + beta))[:, :, None, None]  # eq. 4, 5
