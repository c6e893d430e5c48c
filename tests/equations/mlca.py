"""Mixed local channel attention: Wan et al. 2023 (Eng. Appl. Artif. Intell. 123)."""

import numpy as np

from equations.numeric import Array, adaptive_mean, sigmoid

CASES = ["mlca", "mlca(patches=3, local_weight=0.2)"]


def written(w: dict[str, Array], x: Array, patches: int, local_weight: float) -> Array:
    batch, channels = x.shape[:2]
    local = adaptive_mean(x, (patches, patches))  # local average pooling
    whole = local.mean((2, 3))  # global average pooling
    gates = np.empty_like(local)
    for b in range(batch):
        line = [local[b, c, i, j] for i, j in np.ndindex(patches, patches) for c in range(channels)]
        near = sigmoid(slid(np.array(line), w["conv_local.weight"].ravel()))
        far = sigmoid(slid(whole[b], w["conv_global.weight"].ravel()))
        for place, (i, j) in enumerate(np.ndindex(patches, patches)):
            part = near[place * channels : (place + 1) * channels]
            gates[b, :, i, j] = local_weight * part + (1 - local_weight) * far
    return x * adaptive_mean(gates, x.shape[2:])  # unpooling


def slid(line: Array, kernel: Array) -> Array:
    padded = np.pad(line, len(kernel) // 2)
    return np.array([padded[i : i + len(kernel)] @ kernel for i in range(len(line))])
