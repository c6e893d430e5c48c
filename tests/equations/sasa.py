"""Stand-alone self-attention: equations 2 and 3 of Ramachandran et al. 2019 (arXiv 1906.05909)."""

import numpy as np

from equations.numeric import Array, conv, softmax

CASES = ["sasa", "sasa(kernel=3, heads=2)"]


def written(w: dict[str, Array], x: Array, kernel: int, heads: int, **_: object) -> Array:
    channels, (height, width), half = x.shape[1], x.shape[2:], kernel // 2
    q, k, v = (conv(x, w[f"{name}.weight"]) for name in ("query", "key", "value"))
    y = np.empty_like(x)
    for number, head in enumerate(np.split(np.arange(channels), heads)):
        for i, j in np.ndindex(height, width):
            near = [(a, b) for a in range(i - half, i + half + 1) for b in range(j - half, j + half + 1)]
            near = [(a, b) for a, b in near if 0 <= a < height and 0 <= b < width]
            logits = np.empty((len(x), len(near)))
            for place, (a, b) in enumerate(near):
                r = [w["rows"][number, :, a - i + half, 0], w["columns"][number, :, 0, b - j + half]]
                logits[:, place] = np.einsum(
                    "bc,bc->b", q[:, head, i, j], k[:, head, a, b] + np.concatenate(r)
                )  # eq. 3
            weights = softmax(logits, 1)
            y[:, head, i, j] = sum(weights[:, p, None] * v[:, head, a, b] for p, (a, b) in enumerate(near))
    return y
