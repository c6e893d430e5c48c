"""Means, maxima, deviations and gates of feature maps B C H W, written for what a CPU waits for: memory.

Each computes what the plain expression of torch computes, and its gradient, also where maxima are equal. What they
spare: the gradient of `mean` is a whole new map, NCHW whatever the layout was; that of `amax` compares into booleans,
ten times slower than into floats; each further gate, square or difference keeps one more map for the backward pass.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK, LARGE = 4, 512
"""Side of the blocks of `plane_conv`, and from how many pixels on they pay: measured at 64, 256 and 1,024."""
Dims = int | tuple[int, ...]


def mean(x: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """`x.mean(dim, keepdim)`, by a sum, whose gradient is a view."""
    total = x.sum(dim, keepdim)
    return total / (x.numel() // total.numel())


def amax(x: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """`x.amax(dim, keepdim)`; equal maxima share the gradient, as there."""
    axes = (dim,) if isinstance(dim, int) else dim
    found: Tensor = _Maximum.apply(x, axes)
    return found if keepdim else found.squeeze(axes)


def deviation(x: Tensor, epsilon: float) -> Tensor:
    """sqrt(variance + epsilon) of each map, B C 1 1, the variance being over its H W positions."""
    found: Tensor = _Deviation.apply(x, epsilon)
    return found


def gated(x: Tensor, *gates: Tensor) -> Tensor:
    """x * gate * gate ..., each gate B or 1, C or 1, H or 1, W or 1."""
    found: Tensor = _Gated.apply(x, *gates)
    return found


def planes(x: Tensor, gate: Tensor) -> Tensor:
    """Mean and maximum of x * gate over the channels, B 2 H W."""
    found: Tensor = _Planes.apply(x, gate)
    return found


def pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution of B C 1 1, as the matrix product that it is."""
    assert isinstance(conv, nn.Conv2d)
    return F.linear(x.flatten(1), conv.weight.flatten(1), conv.bias)[:, :, None, None]


def plane_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution (stride 1, padding that keeps the size, odd kernel, no bias) of few channels to few.

    Libraries for convolutions want many channels. On large maps it is the same convolution between blocks of 4x4 pixels
    taken as channels, with one copy of the kernel for each place in the block.
    """
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is None
    assert conv.stride == (1, 1)
    height, width = x.shape[2:]
    if x.device.type != "cpu" or height % BLOCK or width % BLOCK or height * width < LARGE:
        plain: Tensor = conv(x)
        return plain
    size = conv.kernel_size[0]
    reach = -(-(size // 2) // BLOCK)  # blocks on each side that a kernel sees
    side = (2 * reach + 1) * BLOCK
    starts = [place - size // 2 + reach * BLOCK for place in range(BLOCK)]
    rows = torch.stack([F.pad(conv.weight, (0, 0, start, side - size - start)) for start in starts])
    copies = torch.stack([F.pad(rows, (start, side - size - start)) for start in starts], 1)  # s s K C side side
    weight = F.pixel_unshuffle(copies.movedim(2, 0).flatten(0, 2), BLOCK)
    return F.pixel_shuffle(F.conv2d(F.pixel_unshuffle(x, BLOCK), weight, padding=reach), BLOCK)


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        top = _top(x, axes)
        ctx.axes = axes
        ctx.save_for_backward(x, top)
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, top = ctx.saved_tensors
        where = _where(x, top)
        return where.mul_(grad / _sum(where, ctx.axes)), None


class _Deviation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float) -> Tensor:
        centre = mean(x, (2, 3), keepdim=True)
        found = (mean((x - centre).square_(), (2, 3), keepdim=True) + epsilon).sqrt_()
        ctx.save_for_backward(x, centre, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, centre, found = ctx.saved_tensors
        return (x - centre).mul_(grad / (found * x.shape[2] * x.shape[3])), None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *gates: Tensor) -> Tensor:
        ctx.save_for_backward(x, *gates)
        return _product(x, gates)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *gates = ctx.saved_tensors
        first, *needed = ctx.needs_input_grad
        found: list[Tensor | None] = [_product(grad, gates) if first else None]
        slopes = grad * x if any(needed) else grad
        for place, (gate, wanted) in enumerate(zip(gates, needed, strict=True)):
            others = [*gates[:place], *gates[place + 1 :]]
            found.append(_summed_to(_product(slopes, others) if others else slopes, gate) if wanted else None)
        return tuple(found)


class _Planes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        y = x * gate
        top = _top(y, (1,))
        ctx.save_for_backward(x, gate, top)
        return torch.cat([_sum(y, (1,)) / x.shape[1], top], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, gate, top = ctx.saved_tensors
        y = x * gate
        slopes = _where(y, top)
        slopes.mul_(grad[:, 1:] / _sum(slopes, (1,))).add_(grad[:, :1] / x.shape[1])
        return slopes * gate, _summed_to(torch.mul(slopes, x, out=y), gate)


def _product(x: Tensor, gates: Sequence[Tensor]) -> Tensor:
    y = x * gates[0]
    for gate in gates[1:]:
        y *= gate
    return y


def _where(x: Tensor, top: Tensor) -> Tensor:
    """1 where x is its maximum and 0 elsewhere, as floats."""
    return x.clone().eq_(top)


def _summed_to(x: Tensor, gate: Tensor) -> Tensor:
    """The sum of x over the axes along which a gate is broadcast."""
    return _sum(x, tuple(axis for axis in range(4) if gate.shape[axis] == 1 and x.shape[axis] != 1))


def _sum(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """`x.sum(axes, keepdim=True)`; over the channels of a pixel that lie side by side as a product with ones."""
    if axes != (1,) or not _by_pixel(x):
        return x.sum(axes, keepdim=True) if axes else x
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) @ x.new_ones(x.shape[1], 1)
    return rows.reshape(len(x), 1, *x.shape[2:])


def _top(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """`x.amax(axes, keepdim=True)`; over the pixels of few channels in two steps, the first with wide rows."""
    batch, channels, height, width = x.shape
    fold = math.gcd(height * width, 64 // channels) if channels < 64 else 1
    if axes != (2, 3) or fold == 1 or not _by_pixel(x):
        return x.amax(axes, keepdim=True)
    wide = x.permute(0, 2, 3, 1).reshape(batch, -1, fold * channels).amax(1)
    return wide.reshape(batch, fold, channels).amax(1)[:, :, None, None]


def _by_pixel(x: Tensor) -> bool:
    """Whether a CPU holds the channels of a pixel side by side."""
    return x.device.type == "cpu" and x.permute(0, 2, 3, 1).is_contiguous()
