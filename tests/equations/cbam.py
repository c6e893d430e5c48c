"""Convolutional block attention: equations 1-3 of Woo et al. 2018 (arXiv 1807.06521)."""

import numpy as np
from torch import nn

from equations.numeric import Array, batch_norm, conv, linear, relu, sigmoid

CASES = ["cbam", 'cbam(variant="official")', "cbam(kernel=3, reduction=4)"]


def written(w: dict[str, Array], x: Array, **_: object) -> Array:
    def mlp(z: Array) -> Array:
        hidden = relu(linear(z, w["ca.fc.0.weight"], w.get("ca.fc.0.bias", 0.0)))
        return linear(hidden, w["ca.fc.2.weight"], w.get("ca.fc.2.bias", 0.0))

    x = x * sigmoid(mlp(x.mean((2, 3))) + mlp(x.max((2, 3))))[:, :, None, None]  # eq. 2
    logits = conv(np.stack([x.mean(1), x.max(1)], axis=1), w["sa.conv1.weight"])  # eq. 3
    if "sa.norm.weight" in w:  # as released
        logits = batch_norm(logits, w, "sa.norm")
    return x * sigmoid(logits)


def witness(module: nn.Module, channels: int) -> nn.Module:
    """timm's CbamModule is the form without biases; its norm of the spatial convolution is made to do nothing."""
    from timm.layers.cbam import CbamModule

    twin, ours = CbamModule(channels, rd_ratio=1 / 16, rd_divisor=1), module.state_dict()
    loaded = {
        "channel.fc1.weight": ours["ca.fc.0.weight"],
        "channel.fc2.weight": ours["ca.fc.2.weight"],
        "spatial.conv.conv.weight": ours["sa.conv1.weight"],
    }
    missing = twin.load_state_dict(loaded, strict=False).missing_keys
    assert all("spatial.conv.bn" in name for name in missing), missing
    twin.spatial.conv.bn.eps = 0.0
    return twin
