"""Efficient local attention: equations 3-8 of Xu and Wan 2024 (arXiv 2403.01123)."""

from equations.numeric import Array, conv1d, group_norm, sigmoid

CASES = ["ela", "ela(kernel=5, groups=8)"]


def written(w: dict[str, Array], x: Array, groups: int, **_: object) -> Array:
    def direction(z: Array) -> Array:
        f = conv1d(z, w["mix.weight"], groups=groups or x.shape[1])
        return sigmoid(group_norm(f, min(16, x.shape[1]), w, "norm"))

    y_h, y_w = direction(x.mean(3)), direction(x.mean(2))
    return x * y_h[:, :, :, None] * y_w[:, :, None, :]
