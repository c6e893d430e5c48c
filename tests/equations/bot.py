"""Bottleneck transformer: section 3 and figure 4 of Srinivas et al. 2021 (arXiv 2101.11605)."""

import numpy as np
from torch import nn

from equations.numeric import Array, conv, softmax

CASES = ["bot", "bot(heads=2)"]


def written(w: dict[str, Array], x: Array, heads: int, **_: object) -> Array:
    channels, (height, width) = x.shape[1], x.shape[2:]
    q, k, v = np.split(conv(x, w["qkv.weight"]), 3, axis=1)
    out = np.empty_like(x)
    for head in np.split(np.arange(channels), heads):
        for i, j in np.ndindex(height, width):
            own = q[:, head, i, j]
            logits = np.einsum("bc,bchw->bhw", own, k[:, head])
            for a, b in np.ndindex(height, width):
                r = w["positions.rows"][a - i + height - 1] + w["positions.columns"][b - j + width - 1]
                logits[:, a, b] += own @ r
            weights = softmax(logits.reshape(len(x), -1) / np.sqrt(len(head)), 1).reshape(logits.shape)
            out[:, head, i, j] = np.einsum("bhw,bchw->bc", weights, v[:, head])
    return out


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's BottleneckAttn, with its positions scaled too."""
    from timm.layers.bottleneck_attn import BottleneckAttn

    ours = module.state_dict()
    size = tuple((len(ours[f"positions.{axis}"]) + 1) // 2 for axis in ("rows", "columns"))
    twin = BottleneckAttn(channels, feat_size=size, num_heads=4, scale_pos_embed=True)
    names = {"qkv.weight": "qkv.weight"}
    names |= {"pos_embed.height_rel": "positions.rows", "pos_embed.width_rel": "positions.columns"}
    twin.load_state_dict({name: ours[own] for name, own in names.items()})
    return twin
