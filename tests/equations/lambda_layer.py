"""Lambda layer: equations 1 and 2 of Bello 2021 (arXiv 2102.08602), with the lambda convolution of its section 3.2."""

import numpy as np
from torch import nn

from equations.numeric import Array, batch_norm, conv

CASES = ["lambda_layer", "lambda_layer(heads=2, depth=4, field=3)"]


def written(w: dict[str, Array], x: Array, heads: int, depth: int, field: int, **_: object) -> Array:
    (height, width), half = x.shape[2:], field // 2
    q = batch_norm(conv(x, w["query.0.weight"]), w, "query.1").reshape(len(x), heads, depth, height, width)
    k = conv(x, w["key.weight"])
    k = np.exp(k - k.max((2, 3), keepdims=True))
    k = k / k.sum((2, 3), keepdims=True)
    v = batch_norm(conv(x, w["value.0.weight"]), w, "value.1")
    content = np.einsum("bkhw,bvhw->bkv", k, v)
    padded = np.pad(v, ((0, 0), (0, 0), (half, half), (half, half)))
    y = np.empty((len(x), heads, v.shape[1], height, width))
    for i, j in np.ndindex(height, width):
        around = padded[:, :, i : i + field, j : j + field]
        position = np.einsum("kuv,bcuv->bkc", w["near.weight"][:, 0], around) + w["near.bias"][:, None]
        y[..., i, j] = np.einsum("bhk,bkv->bhv", q[..., i, j], content + position)  # eq. 1, 2
    return y.reshape(x.shape)


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's LambdaLayer."""
    import torch
    from timm.layers.lambda_layer import LambdaLayer

    twin, ours = LambdaLayer(channels, num_heads=4, dim_head=16, r=9), module.state_dict()
    loaded = {"qkv.weight": torch.cat([ours[f"{name}.weight"] for name in ("query.0", "key", "value.0")])}
    for theirs, own in (("norm_q", "query.1"), ("norm_v", "value.1")):
        loaded |= {name: ours[name.replace(theirs, own)] for name in twin.state_dict() if name.startswith(theirs)}
    loaded |= {"conv_lambda.weight": ours["near.weight"].unsqueeze(4), "conv_lambda.bias": ours["near.bias"]}
    twin.load_state_dict(loaded)
    return twin
