"""Global context: equation 5 of Cao et al. 2019 (arXiv 1904.11492)."""

import numpy as np
from torch import nn

from equations.numeric import Array, layer_norm, linear, relu, sigmoid

CASES = ["gc", 'gc(fuse="scale")', "gc(reduction=4)"]


def written(w: dict[str, Array], x: Array, fuse: str, **_: object) -> Array:
    out = np.empty_like(x)
    for b in range(len(x)):
        positions = x[b].reshape(x.shape[1], -1).T  # N C
        key = linear(positions, w["mask.weight"], w["mask.bias"])[:, 0]
        alpha = np.exp(key) / np.exp(key).sum()
        context = sum(a * x_j for a, x_j in zip(alpha, positions, strict=True))
        hidden = linear(context, w["fc.0.weight"], w["fc.0.bias"])
        hidden = relu(layer_norm(hidden, w["fc.1.weight"].ravel(), w["fc.1.bias"].ravel()))
        term = linear(hidden, w["fc.3.weight"], w["fc.3.bias"])[:, None, None]
        out[b] = x[b] + term if fuse == "add" else x[b] * sigmoid(term)  # eq. 5; section 5.1: fusion by scaling
    return out


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's GlobalContext, whose layer norm is given our eps."""
    from timm.layers import GlobalContext

    twin = GlobalContext(channels, fuse_add=True, fuse_scale=False, rd_channels=max(4, channels // 16))
    theirs = {"mask": "conv_attn", "fc.0": "mlp_add.fc1", "fc.1": "mlp_add.norm", "fc.3": "mlp_add.fc2"}
    loaded = {}
    for name, value in module.state_dict().items():
        layer, _, kind = name.rpartition(".")
        loaded[f"{theirs[layer]}.{kind}"] = value.reshape(twin.state_dict()[f"{theirs[layer]}.{kind}"].shape)
    twin.load_state_dict(loaded)
    twin.mlp_add.norm.eps = 1e-5
    return twin
