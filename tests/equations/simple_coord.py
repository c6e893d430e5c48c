"""Simple coordinate attention, as timm has it: Hou et al. 2021 (arXiv 2103.02907), equations 4, 5 and 9, with a sum."""

from torch import nn

from equations.numeric import Array, linear, sigmoid, silu

CASES = ["simple_coord"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    def part(name: str, z: Array) -> Array:
        hidden = silu(linear(z, w["squeeze.weight"], w["squeeze.bias"]))
        return linear(hidden, w[f"{name}.weight"], w[f"{name}.bias"])

    rows, columns = part("rows", x.mean(3).transpose(0, 2, 1)), part("columns", x.mean(2).transpose(0, 2, 1))
    logits = rows[:, :, None] + columns[:, None]  # B H W C
    return x * sigmoid(logits.transpose(0, 3, 1, 2))


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's SimpleCoordAttn."""
    from timm.layers.coord_attn import SimpleCoordAttn

    twin, ours = SimpleCoordAttn(channels), module.state_dict()
    names = {"fc1": "squeeze", "fc_h": "rows", "fc_w": "columns"}
    loaded = {}
    for name in twin.state_dict():
        part, field = name.split(".")
        loaded[name] = ours[f"{names[part]}.{field}"]
    twin.load_state_dict(loaded)
    return twin
