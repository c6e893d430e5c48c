"""Global attention mechanism: equations 1 and 2 of Liu et al. 2021 (arXiv 2112.05561)."""

from equations.numeric import Array, batch_norm, conv, linear, relu, sigmoid

CASES = ["gam", "gam(rate=8, kernel=3)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    permuted = x.transpose(0, 2, 3, 1)  # the 3-D permutation: an MLP over the channels of each position
    hidden = relu(linear(permuted, w["channel.0.weight"], w["channel.0.bias"]))
    x = x * sigmoid(linear(hidden, w["channel.2.weight"], w["channel.2.bias"])).transpose(0, 3, 1, 2)  # eq. 1
    s = relu(batch_norm(conv(x, w["spatial.0.weight"], w["spatial.0.bias"]), w, "spatial.1"))
    s = batch_norm(conv(s, w["spatial.3.weight"], w["spatial.3.bias"]), w, "spatial.4")
    return x * sigmoid(s)  # eq. 2
