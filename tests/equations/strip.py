"""Strip attention, as timm has it: depthwise convolutions of the strips of Hou et al. 2020 (arXiv 2003.13328)."""

from torch import nn

from equations.numeric import Array, conv1d, sigmoid

CASES = ["strip", "strip(kernel=5)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    rows = conv1d(x.mean(3), w["rows.weight"], groups=x.shape[1])
    columns = conv1d(x.mean(2), w["columns.weight"], groups=x.shape[1])
    return x * sigmoid(rows[:, :, :, None] + columns[:, :, None, :])


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's StripAttn."""
    from timm.layers.coord_attn import StripAttn

    twin, ours = StripAttn(channels), module.state_dict()
    rows, columns = ours["rows.weight"].unsqueeze(3), ours["columns.weight"].unsqueeze(2)
    twin.load_state_dict({"conv_h.weight": rows, "conv_w.weight": columns})
    return twin
