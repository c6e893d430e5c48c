"""What a network costs: parameters, multiply-accumulates, memory."""

import copy
import itertools
import os
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from attnbench import devices
from attnbench.catalogue.formula import Size
from attnbench.mechanisms import build_attention
from attnbench.networks.within import probing


def cost(model: nn.Module, image: tuple[int, int, int]) -> dict[str, int]:
    """Parameters, and multiply-accumulates of one image's forward pass.

    Counted on the `meta` device, where matrix products and functional attention are seen too; by a pass that computes
    where somebody's own code looks at values or makes tensors on a device of its choice.

    Args:
        image: (channels, height, width).
    """
    try:
        macs = _macs(copy.deepcopy(model).to("meta"), torch.empty(1, *image, device="meta"))
    except Exception:  # whatever somebody's own code raises where there are no values
        with probing(model, image) as blank, sdpa_kernel(SDPBackend.MATH):  # the one kind counted on every device
            macs = _macs(copy.deepcopy(model), blank)
    return {"parameters": sum(p.numel() for p in model.parameters()), "macs": macs}


def _macs(model: nn.Module, image: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    return int(counter.get_total_flops() // 2)


def cost_of(attention: str, channels: int, size: Size) -> dict[str, int]:
    """What one mechanism costs on a map of `channels` channels and `size` (h, w) pixels, as in `cost`."""
    with torch.device("meta"):
        module = build_attention(attention, channels, size)
    return cost(module, (channels, *size))


def activation_bytes(loss: Callable[[], Tensor]) -> int:
    """Bytes that the forward pass keeps for the backward pass: each storage once, parameters too."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        graph = loss()  # kept alive, or addresses would be given out twice
        found = sum(storages.values())
    del graph
    return found


def peak_memory(loss: Callable[[], Tensor]) -> int:
    """Bytes that one forward and backward pass allocates at most beyond what was there before."""
    value = loss()
    value.backward()  # gradients exist from here on
    device = value.device
    del value
    if devices.on_card(device):
        with devices.peak(device) as found:
            loss().backward()
        return found[0]
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when the profiler first starts
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        loss().backward()
    assert seen.profiler is not None
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    return int(max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda one: one.start_ns()))))
