"""Large kernel attention: equations 3 and 4 of Guo et al. 2022 (arXiv 2202.09741)."""

from equations.numeric import Array, conv

CASES = ["lka"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    channels = x.shape[1]
    local = conv(x, w["local.weight"], w["local.bias"], groups=channels)
    wide = conv(local, w["wide.weight"], w["wide.bias"], groups=channels, dilation=3)
    return conv(wide, w["mix.weight"], w["mix.bias"]) * x  # eq. 3, 4
