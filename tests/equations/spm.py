"""Strip pooling: equations 1-4 of Hou et al. 2020 (arXiv 2003.13328)."""

from equations.numeric import Array, batch_norm, conv, conv1d, relu, sigmoid

CASES = ["spm"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    y_h = batch_norm(conv1d(x.mean(3), w["rows.0.weight"]), w, "rows.1")  # eq. 1
    y_v = batch_norm(conv1d(x.mean(2), w["columns.0.weight"]), w, "columns.1")  # eq. 2
    y = relu(y_h[:, :, :, None] + y_v[:, :, None, :])  # eq. 3
    return x * sigmoid(conv(y, w["mix.weight"], w["mix.bias"]))  # eq. 4
