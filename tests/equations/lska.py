"""Large separable kernel attention: equations 5-8 of Lau et al. 2023 (arXiv 2309.01439)."""

from equations.numeric import Array, conv

CASES = ["lska"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    z = x
    for name, dilation in (("local.0", 1), ("local.1", 1), ("wide.0", 3), ("wide.1", 3)):
        z = conv(z, w[f"{name}.weight"], w[f"{name}.bias"], groups=x.shape[1], dilation=dilation)
    return conv(z, w["mix.weight"], w["mix.bias"]) * x
