"""HaloNet's blocked local self-attention: section 2 of Vaswani et al. 2021 (arXiv 2103.12731)."""

import numpy as np
from torch import nn

from equations.numeric import Array, conv, softmax

CASES = ["halo", "halo(block=4, halo=1)", "halo(heads=2, block=3, halo=2)"]


def written(w: dict[str, Array], x: Array, heads: int, block: int, halo: int, **_: object) -> Array:
    channels, (height, width) = x.shape[1], x.shape[2:]
    q, k, v = np.split(conv(x, w["qkv.weight"]), 3, axis=1)
    y = np.empty_like(x)
    for head in np.split(np.arange(channels), heads):
        for i, j in np.ndindex(height, width):
            top, left = i // block * block - halo, j // block * block - halo  # the block's shared neighbourhood
            near = [(a, b) for a in range(top, top + block + 2 * halo) for b in range(left, left + block + 2 * halo)]
            logits, values = np.empty((len(x), len(near))), np.zeros((len(near), len(x), len(head)))
            for place, (a, b) in enumerate(near):
                r = w["rows"][a - i + block + halo - 1] + w["columns"][b - j + block + halo - 1]
                key = np.zeros((len(x), len(head)))  # beyond the border
                if 0 <= a < height and 0 <= b < width:
                    key, values[place] = k[:, head, a, b], v[:, head, a, b]
                logits[:, place] = np.einsum("bc,bc->b", q[:, head, i, j], key + r) / np.sqrt(len(head))
            y[:, head, i, j] = np.einsum("bp,pbc->bc", softmax(logits, 1), values)
    return y


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's HaloAttn, which takes whole blocks only and whose tables begin with distances that no pair has."""
    import torch
    import torch.nn.functional as F
    from timm.layers.halo_attn import HaloAttn

    class Filled(nn.Module):
        def __init__(self, whole: nn.Module) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            height, width = x.shape[2:]
            return self.whole(F.pad(x, (0, -width % 8, 0, -height % 8)))[:, :, :height, :width]

    twin, ours = HaloAttn(channels, num_heads=8, block_size=8, halo_size=3, scale_pos_embed=True), module.state_dict()
    twin.load_state_dict(
        {
            "q.weight": ours["qkv.weight"][:channels],
            # theirs has each head's keys beside its values
            "kv.weight": ours["qkv.weight"][channels:].reshape(2, 8, -1, channels, 1, 1).transpose(0, 1).flatten(0, 2),
            "pos_embed.height_rel": F.pad(ours["rows"], (0, 0, 6, 0)),
            "pos_embed.width_rel": F.pad(ours["columns"], (0, 0, 6, 0)),
        }
    )
    return Filled(twin)
