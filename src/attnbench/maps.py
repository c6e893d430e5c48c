"""Means, maxima, deviations and gates of feature maps B C H W, written for what a CPU waits for: memory.

Each computes what the plain expression of torch computes, and its gradient, also where maxima are equal. What they
spare: the gradient of `mean` is a whole new map, NCHW whatever the layout was; that of `amax` compares into booleans,
ten times slower than into floats; each further gate, square or difference keeps one more map for the backward pass.

Where torch does not run an operation for an ordinary backward pass, but records it (torch.compile, torch.export,
torch.jit.trace) or transforms it (torch.func, forward derivatives), the plain expression is what it gets; and a second
derivative is that of the plain expression. So does CUDA, which waits for kernels to start rather than for memory.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from attnbench.devices import on_card

BLOCK, LARGE = 4, 512
"""Side of the blocks of `plane_conv`, and from how many pixels on they pay: measured at 64, 256 and 1,024."""
Dims = int | tuple[int, ...]


def mean(x: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """`x.mean(dim, keepdim)`, by a sum, whose gradient is a view; in float16 the sum is kept in float32, as there."""
    if on_card(x.device):
        return x.mean(dim, keepdim)
    count = 1
    for axis in (dim,) if isinstance(dim, int) else dim:
        count = count * x.shape[axis]
    total = x.sum(dim, keepdim, dtype=torch.float32) if _narrow(x) else x.sum(dim, keepdim)
    return narrow(total / count, x)


def amax(x: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """`x.amax(dim, keepdim)`; equal maxima share the gradient, as there."""
    axes = (dim,) if isinstance(dim, int) else dim
    if not _pays(x):
        return x.amax(axes, keepdim)
    found: Tensor = _Maximum.apply(x, axes)
    return found if keepdim else found.squeeze(axes)


def deviation(x: Tensor, epsilon: float, less: int = 0) -> Tensor:
    """sqrt(variance + epsilon) of each map, B C 1 1, the variance being over its H W positions, or one `less`."""
    found: Tensor = _Deviation.apply(x, epsilon, less) if _pays(x) else _deviation(x, epsilon, less)
    return found


def gated(x: Tensor, *gates: Tensor) -> Tensor:
    """x * gate * gate ..., each gate B or 1, C or 1, H or 1, W or 1."""
    found: Tensor = _Gated.apply(x, *gates) if _pays(x, *gates) else math.prod(gates, start=x)
    return found


def planes(x: Tensor, gate: Tensor) -> Tensor:
    """Mean and maximum of x * gate over the channels, B 2 H W."""
    found: Tensor = _Planes.apply(x, gate) if _pays(x, gate) else _planes(x, gate)
    return found


def runs(*inputs: Tensor) -> bool:
    """Whether torch runs what is written, rather than record or transform it; False asks for the plain expression."""
    if torch.compiler.is_compiling() or torch.jit._trace.is_tracing() or torch._C._are_functorch_transforms_active():
        return False
    return all(unpack_dual(x).tangent is None for x in inputs)


def _pays(*inputs: Tensor) -> bool:
    """Whether to run what is written here: on CUDA the plain expression is quicker, with fewer kernels to start."""
    return not on_card(inputs[0].device) and runs(*inputs)


def slopes(plain: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of a plain expression, to be differentiated again: for a backward pass while gradients are on.

    Args:
        plain: the expression of the inputs alone; grad: the gradient of what it gives.

    Returns:
        one gradient for each input, None for one that needs none.
    """
    own = [x.view_as(x) for x in inputs]  # an input that was made from another is not followed back to it
    wanted = [x for x in own if x.requires_grad]
    found = iter(torch.autograd.grad(plain(*own), wanted, grad, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in own)


def wide(x: Tensor) -> Tensor:
    """float16 as float32, for sums of products that float16 cannot hold; other types as they are."""
    return x.float() if _narrow(x) else x


def narrow(y: Tensor, like: Tensor) -> Tensor:
    """What was computed of `wide` values, in the type that they had before."""
    return y.to(like.dtype) if _narrow(like) else y


def laid_out(y: Tensor, like: Tensor) -> Tensor:
    """`y` in the memory format of `like`, where that is channels-last: the next convolution would copy it otherwise."""
    last = torch.channels_last
    if runs(y) and like.is_contiguous(memory_format=last) and not like.is_contiguous():
        return y.contiguous(memory_format=last)
    return y


def pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution of B C 1 1, as the matrix product that it is; of `wide` values it is one in float32."""
    assert isinstance(conv, nn.Conv2d)
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    return F.linear(x.flatten(1), conv.weight.flatten(1).to(x.dtype), bias)[:, :, None, None]


def plane_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution (stride 1, padding that keeps the size, odd kernel, no bias) of few channels to few.

    Libraries for convolutions want many channels. On large maps it is the same convolution between blocks of 4x4 pixels
    taken as channels, with one copy of the kernel for each place in the block.
    """
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is None
    assert conv.stride == (1, 1)
    height, width = x.shape[2:]
    if not runs(x) or x.device.type != "cpu" or height % BLOCK or width % BLOCK or height * width < LARGE:
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
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, top = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *slopes(lambda x: x.amax(ctx.axes, keepdim=True), grad, x), None
        where = _where(x, top)
        return where.mul_(grad / _sum(where, ctx.axes)), None


class _Deviation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float, less: int) -> Tensor:
        centre = mean(x, (2, 3), keepdim=True)
        found = _root((x - centre).square_(), epsilon, less)
        ctx.save_for_backward(x, centre, found)
        ctx.epsilon, ctx.less = epsilon, less
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, centre, found = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *slopes(lambda x: _deviation(x, ctx.epsilon, ctx.less), grad, x), None, None
        return (x - centre).mul_(grad / (found * max(1, x.shape[2] * x.shape[3] - ctx.less))), None, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *gates: Tensor) -> Tensor:
        ctx.save_for_backward(x, *gates)
        return _product(x, gates)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *gates = ctx.saved_tensors
        if torch.is_grad_enabled():
            return slopes(lambda x, *gates: math.prod(gates, start=x), grad, x, *gates)
        first, *needed = ctx.needs_input_grad
        found: list[Tensor | None] = [_product(grad, gates) if first else None]
        steep = grad * x if any(needed) else grad
        for place, (gate, wanted) in enumerate(zip(gates, needed, strict=True)):
            others = [*gates[:place], *gates[place + 1 :]]
            found.append(_summed_to(_product(steep, others) if others else steep, gate) if wanted else None)
        return tuple(found)


class _Planes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        y = x * gate
        top = _top(y, (1,))
        ctx.save_for_backward(x, gate, top)
        return torch.cat([_sum(y, (1,)) / x.shape[1], top], dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gate, top = ctx.saved_tensors
        if torch.is_grad_enabled():
            return slopes(_planes, grad, x, gate)
        y = x * gate
        steep = _where(y, top)
        steep.mul_(grad[:, 1:] / _sum(steep, (1,))).add_(grad[:, :1] / x.shape[1])
        return steep * gate, _summed_to(torch.mul(steep, x, out=y), gate)


def _deviation(x: Tensor, epsilon: float, less: int) -> Tensor:
    return _root((x - mean(x, (2, 3), keepdim=True)).square(), epsilon, less)


def _root(squares: Tensor, epsilon: float, less: int) -> Tensor:
    variance = wide(squares).sum((2, 3), keepdim=True) / max(1, squares.shape[2] * squares.shape[3] - less)
    return narrow((variance + epsilon).sqrt(), squares)


def _planes(x: Tensor, gate: Tensor) -> Tensor:
    y = x * gate
    return torch.cat([mean(y, 1, keepdim=True), y.amax(1, keepdim=True)], dim=1)


def _narrow(x: Tensor) -> bool:
    """Whether sums would overflow: autocast keeps them in float32 by itself."""
    return x.dtype == torch.float16 and not torch.is_autocast_enabled(x.device.type)


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


def avg_pool(x: Tensor, kernel: int, stride: int, padding: int, count_padding: bool = True) -> Tensor:
    """`avg_pool2d` with padding, B C H W; on CUDA over NCHW, since there the gradient of channels-last maps is wrong.

    Torch issue 188344: silently, with padding only; seen in torch 2.11.
    """
    maps = x.contiguous() if on_card(x.device) else x
    return laid_out(F.avg_pool2d(maps, kernel, stride, padding, count_include_pad=count_padding), x)
