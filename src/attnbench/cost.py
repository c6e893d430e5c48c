"""What a network costs: parameters and multiply-accumulates."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def cost(model: nn.Module, image: tuple[int, int, int]) -> dict[str, int]:
    """Parameters, and multiply-accumulates of one image's forward pass.

    Counted on the `meta` device, where matrix products and functional attention are seen too.

    Args:
        image: (channels, height, width).
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ghost(torch.empty(1, *image, device="meta"))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "macs": counter.get_total_flops() // 2,
    }
