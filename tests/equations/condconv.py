"""Conditionally parameterised convolution: equations 1 and 2 of Yang et al. 2019 (arXiv 1904.04971)."""

import numpy as np
from torch import Tensor, nn

from equations.numeric import Array, conv, linear, sigmoid

CASES = ["condconv", "condconv(experts=2)"]


def written(w: dict[str, Array], x: Array, experts: int, **_: object) -> Array:
    alpha = sigmoid(linear(x.mean((2, 3)), w["routing.weight"], w["routing.bias"]))  # eq. 2
    kernels = w["kernels"].reshape(experts, x.shape[1], x.shape[1], 3, 3)
    # eq. 1, in its second form: a sum of the experts' outputs
    return np.sum([alpha[:, i, None, None, None] * conv(x, kernels[i]) for i in range(experts)], axis=0)


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's CondConv2d, with the routing of its EfficientNets in front."""
    from timm.layers import CondConv2d

    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.routing = nn.Linear(channels, 4)
            self.conv = CondConv2d(channels, channels, 3, padding=1, num_experts=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, self.routing(x.mean((2, 3))).sigmoid())

    twin, ours = Routed(), module.state_dict()
    names = {"routing.weight": "routing.weight", "routing.bias": "routing.bias"}
    loaded = {name: ours[own] for name, own in names.items()}
    twin.load_state_dict({**loaded, "conv.weight": ours["kernels"].reshape(4, -1)})
    return twin
