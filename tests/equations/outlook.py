"""Outlook attention: equations 3-5 of Yuan et al. 2021 (arXiv 2106.13112)."""

import numpy as np
from torch import Tensor, nn

from equations.numeric import Array, conv, softmax

CASES = ["outlook", "outlook(heads=2)"]


def written(w: dict[str, Array], x: Array, kernel: int, heads: int, **_: object) -> Array:
    channels, (height, width), half, area = x.shape[1], x.shape[2:], kernel // 2, kernel**2
    heads = max(h for h in range(1, heads + 1) if channels % h == 0)
    per = channels // heads
    v = np.pad(conv(x, w["value.weight"]), ((0, 0), (0, 0), (half, half), (half, half)))
    a = conv(x, w["weigh.weight"], w["weigh.bias"]).reshape(len(x), heads, area, area, height, width)
    a = softmax(a / np.sqrt(per), 3)  # eq. 3
    out = np.zeros_like(v)
    for head in range(heads):
        own = slice(head * per, (head + 1) * per)
        for i, j in np.ndindex(height, width):
            around = v[:, own, i : i + kernel, j : j + kernel].reshape(len(x), per, area)
            mixed = np.einsum("bpq,bcq->bcp", a[:, head, :, :, i, j], around)  # eq. 4
            out[:, own, i : i + kernel, j : j + kernel] += mixed.reshape(len(x), per, kernel, kernel)  # eq. 5
    return conv(out[:, :, half : half + height, half : half + width], w["out.weight"], w["out.bias"])


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's OutlookAttention of VOLO, which has the channels last."""
    from timm.models.volo import OutlookAttention

    class ChannelsFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = OutlookAttention(channels, num_heads=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    twin, ours = ChannelsFirst(), module.state_dict()
    names = {"v": "value", "attn": "weigh", "proj": "out"}
    loaded = {}
    for name, value in twin.attention.state_dict().items():
        part, field = name.split(".")
        loaded[name] = ours[f"{names[part]}.{field}"].reshape(value.shape)
    twin.attention.load_state_dict(loaded)
    return twin
