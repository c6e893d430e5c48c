"""Grouped bilinear attentional transform: Y = P X Q of Chi et al. 2020 (CVPR), in the block of the released code."""

import numpy as np
from torch import Tensor, nn

from equations.numeric import Array, batch_norm, conv, relu, sigmoid

CASES = ["bat", "bat(reduction=4, block=2, groups=2)", "bat(block=3, groups=1)"]


def written(w: dict[str, Array], x: Array, block: int, groups: int, **_: object) -> Array:
    features = relu(batch_norm(conv(x, w["enter.0.weight"]), w, "enter.1"))
    pooled = relu(batch_norm(conv(features, w["pool.0.weight"]), w, "pool.1"))
    height, width = x.shape[2:]
    tall, wide = -(-height // block), -(-width // block)  # pixels to a block, where the last blocks may be empty
    each = features.shape[1] // groups
    y = np.zeros_like(features)
    for b in range(len(x)):
        rows, columns = np.zeros((groups, block)), np.zeros((groups, block))
        for i in range(block):
            rows[:, i] = pooled[b, :, i * tall : (i + 1) * tall].max((1, 2), initial=0)
            columns[:, i] = pooled[b, :, :, i * wide : (i + 1) * wide].max((1, 2), initial=0)
        p = np.einsum("ogi,gi->o", w["rows.weight"][:, :, :, 0], rows) + w["rows.bias"]
        q = np.einsum("ogi,gi->o", w["columns.weight"][:, :, 0], columns) + w["columns.bias"]
        for g in range(groups):
            left = sigmoid(p.reshape(groups, block, block)[g])
            left = left / left.sum(1, keepdims=True)  # every row of P sums to 1
            right = sigmoid(q.reshape(groups, block, block)[g])
            right = right / right.sum(0, keepdims=True)  # every column of Q sums to 1
            left, right = np.kron(left, np.eye(tall)), np.kron(right, np.eye(wide))  # pixels move as their block does
            for c in range(g * each, (g + 1) * each):
                y[b, c] = left[:height, :height] @ features[b, c] @ right[:width, :width]  # Y = P X Q
    y = relu(batch_norm(conv(y, w["mix.0.weight"]), w, "mix.1"))
    return x + relu(batch_norm(conv(y, w["leave.0.weight"]), w, "leave.1"))


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's BatNonLocalAttn, which takes whole blocks only: given the zeros that ours fills up with, and cropped."""
    import torch.nn.functional as F
    from timm.layers import BatNonLocalAttn

    twin, ours = BatNonLocalAttn(channels, block_size=7, groups=4, rd_channels=channels // 2), module.state_dict()
    parts = {"conv1": "enter", "ba.conv1": "pool", "ba.conv2": "mix", "conv2": "leave"}
    names = {"ba.conv_p": "rows", "ba.conv_q": "columns"}
    for theirs, own in parts.items():
        names |= {f"{theirs}.conv": f"{own}.0", f"{theirs}.bn": f"{own}.1"}
    twin.load_state_dict(
        {name: ours[".".join((names[(p := name.rpartition("."))[0]], p[2]))] for name in twin.state_dict()}
    )
    size: list[int] = []

    def pad(_: nn.Module, args: tuple[Tensor]) -> Tensor:
        size[:] = args[0].shape[2:]
        return F.pad(args[0], (0, -size[1] % 7, 0, -size[0] % 7))

    def crop(_: nn.Module, __: object, out: Tensor) -> Tensor:
        return out[:, :, : size[0], : size[1]]

    def blank(part: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        return F.pad(crop(part, inputs, out), (0, -size[1] % 7, 0, -size[0] % 7))

    twin.ba.register_forward_pre_hook(pad)
    twin.ba.conv1.register_forward_hook(blank)
    twin.ba.register_forward_hook(crop)
    return twin
