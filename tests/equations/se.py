"""Squeeze-and-excitation: equations 2-4 of Hu et al. 2018 (arXiv 1709.01507)."""

from torch import nn

from equations.numeric import Array, linear, relu, sigmoid

CASES = ["se", 'se(variant="classic", reduction=4)', "se(reduction=64)"]
CASES += ['se(hidden=6, activation="silu")', 'se(reduction=4, gating="hardsigmoid")']


def written(w: dict[str, Array], x: Array, activation: str, gating: str, **_: object) -> Array:
    z = x.mean((2, 3))  # eq. 2: squeeze
    inner = linear(z, w["fc.0.weight"], w.get("fc.0.bias", 0.0))
    hidden = relu(inner) if activation == "relu" else inner * sigmoid(inner)
    outer = linear(hidden, w["fc.2.weight"], w.get("fc.2.bias", 0.0))
    s = sigmoid(outer) if gating == "sigmoid" else (outer / 6 + 0.5).clip(0, 1)  # eq. 3: excitation
    return x * s[:, :, None, None]  # eq. 4: scale


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's SEModule has the biases of the released models, as 1x1 convolutions."""
    from timm.layers import SEModule

    twin = SEModule(channels, rd_channels=max(1, channels // 16))
    ours = module.state_dict()
    names = {"fc1.weight": "fc.0.weight", "fc1.bias": "fc.0.bias", "fc2.weight": "fc.2.weight", "fc2.bias": "fc.2.bias"}
    twin.load_state_dict({new: ours[old].reshape(twin.state_dict()[new].shape) for new, old in names.items()})
    return twin
