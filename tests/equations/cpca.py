"""Channel prior convolutional attention: equations 1-4 of Huang et al. 2023 (arXiv 2306.05196)."""

from equations.numeric import Array, conv, linear, relu, sigmoid

CASES = ["cpca", 'cpca(variant="official")', "cpca(reduction=16)"]


def written(w: dict[str, Array], x: Array, variant: str, **_: object) -> Array:
    def mlp(z: Array) -> Array:
        return linear(relu(linear(z, w["mlp.0.weight"], w["mlp.0.bias"])), w["mlp.2.weight"], w["mlp.2.bias"])

    def depthwise(z: Array, name: str) -> Array:
        return conv(z, w[f"{name}.weight"], w[f"{name}.bias"], groups=x.shape[1])

    if variant == "paper":
        gate = sigmoid(mlp(x.mean((2, 3))) + mlp(x.max((2, 3))))  # eq. 3
    else:
        gate = sigmoid(mlp(x.mean((2, 3)))) + sigmoid(mlp(x.max((2, 3))))  # as released
    f_c = x * gate[:, :, None, None]  # eq. 1
    local = depthwise(f_c, "local")
    branches = [local, *(depthwise(depthwise(local, f"strips.{i}.0"), f"strips.{i}.1") for i in range(3))]
    return conv(sum(branches), w["mix.weight"], w["mix.bias"]) * f_c  # eq. 2, 4
