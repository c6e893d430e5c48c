"""Light CBAM, as timm has it: equations 1-3 of Woo et al. 2018 (arXiv 1807.06521) with the pools averaged first."""

from torch import nn

from equations.numeric import Array, batch_norm, conv, linear, relu, sigmoid

CASES = ["lcbam", "lcbam(kernel=3, reduction=4)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    z = 0.5 * x.mean((2, 3)) + 0.5 * x.max((2, 3))
    x = x * sigmoid(linear(relu(linear(z, w["mlp.0.weight"])), w["mlp.2.weight"]))[:, :, None, None]
    plane = 0.5 * x.mean(1, keepdims=True) + 0.5 * x.max(1, keepdims=True)
    return x * sigmoid(batch_norm(conv(plane, w["conv.weight"]), w, "norm"))


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's LightCbamModule."""
    from timm.layers.cbam import LightCbamModule

    twin, ours = LightCbamModule(channels, rd_ratio=1 / 16, rd_divisor=1), module.state_dict()
    names = {"channel.fc1": "mlp.0", "channel.fc2": "mlp.2", "spatial.conv.conv": "conv", "spatial.conv.bn": "norm"}
    loaded = {}
    for name, value in twin.state_dict().items():
        part, field = name.rsplit(".", 1)
        loaded[name] = ours[f"{names[part]}.{field}"].reshape(value.shape)
    twin.load_state_dict(loaded)
    return twin
