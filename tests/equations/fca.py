"""Frequency channel attention: section 3 of Qin et al. 2021 (arXiv 2012.11879)."""

import numpy as np

from equations.numeric import Array, adaptive_mean, linear, relu, sigmoid

CASES = ["fca", 'fca(selection="low", frequencies=8, reduction=4)', "fca(frequencies=1)"]

TOP = "00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22"
"""The sixteen best pairs of vertical and horizontal frequency on the 7x7 grid, in the released order."""
LOW = "00 01 10 11 02 20 21 12"


def written(w: dict[str, Array], x: Array, frequencies: int, selection: str, **_: object) -> Array:
    channels, height, width = x.shape[1], max(7, x.shape[2]), max(7, x.shape[3])
    grid = adaptive_mean(x, (height, width))  # at least the 7x7 parts of the frequency space
    pairs = (TOP if selection == "top" else LOW).split()[:frequencies]
    freq = np.empty(x.shape[:2])
    for c in range(channels):
        u, v = (
            int(digit) for digit in pairs[c * len(pairs) // channels]
        )  # equal parts of the channels, a frequency each
        u, v = u * (height // 7), v * (width // 7)  # the lowest frequency of its part
        freq[:, c] = 0.0
        for h, j in np.ndindex(height, width):  # 2-D DCT; its constant factors follow
            basis = np.cos(np.pi * u / height * (h + 0.5)) * np.cos(np.pi * v / width * (j + 0.5))
            freq[:, c] += grid[:, c, h, j] * basis
        freq[:, c] *= np.sqrt((1 + (u > 0)) / height) * np.sqrt((1 + (v > 0)) / width)
    ms_att = sigmoid(linear(relu(linear(freq, w["fc.0.weight"])), w["fc.2.weight"]))  # as in SE
    return x * ms_att[:, :, None, None]
