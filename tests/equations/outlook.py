"""Outlook attention: equations 3-5 and algorithm 1 of Yuan et al. 2021 (arXiv 2106.13112)."""

import numpy as np
from torch import Tensor, nn

from equations.numeric import Array, softmax

CASES = [
    "outlook",
    "outlook(head_channels=8)",
    "outlook(kernel=5, head_channels=16, stride=3)",
    'outlook(variant="official", stride=2, head_channels=8)',
]
WITNESSED = CASES[-1]


def written(
    w: dict[str, Array], x: Array, kernel: int, head_channels: int, stride: int, variant: str, **_: object
) -> Array:
    batch, channels, height, width = x.shape
    heads, far = channels // head_channels, kernel // 2
    v = np.einsum("oc,bchw->bohw", w["value.weight"][:, :, 0, 0], x)
    out = np.zeros_like(x)
    for a, b in np.ndindex(-(-height // stride), -(-width // stride)):
        top, left = a * stride, b * stride
        seen = x[:, :, top : top + stride, left : left + stride].mean((2, 3))  # the pixel itself at stride 1
        logits = seen @ w["attend.weight"][:, :, 0, 0].T + w["attend.bias"]
        logits = logits.reshape(batch, heads, kernel**2, kernel**2)
        if variant == "official":
            logits = logits / np.sqrt(head_channels)
        weights = softmax(logits, axis=-1)  # eq. 4
        window = np.zeros((batch, heads, head_channels, kernel**2))  # eq. 3; 0 beyond the edge
        inside = {}
        for n, (dy, dx) in enumerate(np.ndindex(kernel, kernel)):
            i, j = top + dy - far, left + dx - far
            if 0 <= i < height and 0 <= j < width:
                inside[n] = i, j
                window[..., n] = v[:, :, i, j].reshape(batch, heads, head_channels)
        for n, (i, j) in inside.items():  # eq. 4, and eq. 5: the windows' values are added where they overlap
            out[:, :, i, j] += np.einsum("bhm,bhcm->bhc", weights[:, :, n], window).reshape(batch, channels)
    if variant == "official":
        out = np.einsum("oc,bchw->bohw", w["project.weight"][:, :, 0, 0], out) + w["project.bias"][:, None, None]
    return out


class ChannelsFirst(nn.Module):
    """timm's module takes B H W C."""

    def __init__(self, attn: nn.Module) -> None:
        super().__init__()
        self.attn = attn

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's OutlookAttention, as VOLO's authors gave it to timm."""
    from timm.models.volo import OutlookAttention

    twin = OutlookAttention(channels, channels // 8, kernel_size=3, padding=1, stride=2)
    names = {"value": "v", "attend": "attn", "project": "proj"}
    loaded = {}
    for name, tensor in module.state_dict().items():
        part, field = name.split(".")
        loaded[f"{names[part]}.{field}"] = tensor.flatten(1) if field == "weight" else tensor
    twin.load_state_dict(loaded)
    return ChannelsFirst(twin)
