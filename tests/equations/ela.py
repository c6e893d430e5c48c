"""Efficient local attention: equations 3-8 of Xu and Wan 2024 (arXiv 2403.01123)."""

from torch import nn

from equations.numeric import Array, conv1d, group_norm, sigmoid

CASES = ["ela", "ela(kernel=5, groups=8)", "ela(kernel=5, norm_groups=32)"]


def written(w: dict[str, Array], x: Array, groups: int, norm_groups: int, **_: object) -> Array:
    def direction(z: Array) -> Array:
        f = conv1d(z, w["mix.weight"], groups=groups or x.shape[1])
        return sigmoid(group_norm(f, min(norm_groups, x.shape[1]), w, "norm"))

    y_h, y_w = direction(x.mean(3)), direction(x.mean(2))
    return x * y_h[:, :, :, None] * y_w[:, :, None, :]


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's EfficientLocalAttn with a norm of 16 groups, no activation, and the same weights for both axes."""
    from timm.layers.coord_attn import EfficientLocalAttn

    twin = EfficientLocalAttn(channels, norm_layer=lambda width, **_: nn.GroupNorm(16, width), act_layer=nn.Identity)
    ours = module.state_dict()
    loaded = {"conv_h.weight": ours["mix.weight"].unsqueeze(3), "conv_w.weight": ours["mix.weight"].unsqueeze(2)}
    loaded |= {f"norm_{axis}.{field}": ours[f"norm.{field}"] for axis in "hw" for field in ("weight", "bias")}
    twin.load_state_dict(loaded)
    return twin
