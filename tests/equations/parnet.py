"""ParNet's block with skip-squeeze-excitation: section 3.1 of Goyal et al. 2021 (arXiv 2110.07641)."""

from equations.numeric import Array, batch_norm, conv, linear, sigmoid, silu

CASES = ["parnet", 'parnet(variant="official")']


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    skip = x if "excite.bias" in w else batch_norm(x, w, "norm")  # as released
    gate = sigmoid(linear(skip.mean((2, 3)), w["excite.weight"], w.get("excite.bias", 0.0)))
    branches = (batch_norm(conv(x, w[f"{name}.0.weight"]), w, f"{name}.1") for name in ("point", "local"))
    return silu(sum(branches) + skip * gate[:, :, None, None])
