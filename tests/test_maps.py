"""Operations on maps that are written for memory compute what the plain expressions compute, gradients too."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from rounding import allowed
from torch import Tensor, nn

from attnbench.maps import BLOCK, LARGE, amax, deviation, gated, mean, plane_conv, planes, pointwise
from attnbench.mechanisms import build_attention
from attnbench.seeding import seeded

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
SHAPES = pytest.mark.parametrize(
    "shape", [(3, 4, 6, 5), (2, 16, 8, 8), (2, 70, 3, 3), (2, 5, 1, 1), (1, 1, 4, 2)], ids=str
)
PRECISIONS = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32], ids=lambda dtype: str(dtype).removeprefix("torch.")
)


def drawn(
    *shape: int, dtype: torch.dtype = torch.float64, layout: torch.memory_format = torch.contiguous_format
) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)
    return made.contiguous(memory_format=layout).requires_grad_()


def agree(ours, plain, *inputs: Tensor) -> None:
    """The same output, and the same gradients for a gradient that differs everywhere, as the plain form in float64."""
    exact = [x if x.dtype == torch.float64 else x.detach().double().requires_grad_() for x in inputs]
    close(outcome(ours, inputs), lambda: outcome(plain, exact), inputs)


def close(found: list[Tensor], written: Callable[[], list[Tensor]], inputs: Sequence[Tensor]) -> None:
    truth = written()
    within = allowed(written, *inputs) if inputs[0].dtype == torch.float32 else [1e-10 * size(x) for x in truth]
    gaps = [float((one - other).abs().max()) for one, other in zip(found, truth, strict=True)]
    assert all(gap <= bound for gap, bound in zip(gaps, within, strict=True)), f"off by {gaps}; allowed: {within}"


def outcome(form, inputs: Sequence[Tensor]) -> list[Tensor]:
    out = form(*inputs)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).float()
    return [out.detach(), *torch.autograd.grad(out, inputs, slope.to(out.dtype))]


def size(x: Tensor) -> float:
    return max(1.0, float(x.abs().max()))


AXES = [(2, 3), 1, 2, 3]


@LAYOUTS
@SHAPES
@PRECISIONS
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("keepdim", [False, True])
def test_means_and_maxima_are_torchs(shape, layout, dtype, axes, keepdim):
    x = drawn(*shape, dtype=dtype, layout=layout)
    agree(lambda x: mean(x, axes, keepdim), lambda x: x.mean(axes, keepdim), x)
    agree(lambda x: amax(x, axes, keepdim), lambda x: x.amax(axes, keepdim), x)


@LAYOUTS
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_equal_maxima_share_the_gradient_as_torchs_do(layout, axes):
    levels = drawn(2, 8, 4, 4, layout=layout).detach().round().requires_grad_()  # few values: many are equal
    agree(lambda x: amax(x, axes), lambda x: x.amax(axes), levels)


@LAYOUTS
@SHAPES
@PRECISIONS
def test_a_deviation_is_the_root_of_the_variance(shape, layout, dtype):
    def plain(x: Tensor) -> Tensor:
        return (x.var((2, 3), correction=0, keepdim=True) + 1e-2).sqrt()

    agree(lambda x: deviation(x, 1e-2), plain, drawn(*shape, dtype=dtype, layout=layout))


@LAYOUTS
@SHAPES
@PRECISIONS
def test_gates_multiply(shape, layout, dtype):
    batch, channels, height, width = shape
    x = drawn(*shape, dtype=dtype, layout=layout)
    channel, place = drawn(batch, channels, 1, 1, dtype=dtype), drawn(batch, 1, height, width, dtype=dtype)
    row, whole = drawn(1, channels, height, 1, dtype=dtype), drawn(*shape, dtype=dtype, layout=layout)
    for gates in ([channel], [place], [channel, place], [row, place, whole]):
        agree(gated, lambda x, *gates: x * torch.stack([*torch.broadcast_tensors(*gates)]).prod(0), x, *gates)


@LAYOUTS
@SHAPES
@PRECISIONS
def test_planes_are_the_channels_mean_and_maximum(shape, layout, dtype):
    def plain(x: Tensor, gate: Tensor) -> Tensor:
        return torch.cat([(x * gate).mean(1, keepdim=True), (x * gate).amax(1, keepdim=True)], 1)

    agree(planes, plain, drawn(*shape, dtype=dtype, layout=layout), drawn(*shape[:2], 1, 1, dtype=dtype))


@pytest.mark.parametrize("size", [3, 5, 7, 9, 11])
@pytest.mark.parametrize("side", [(32, 32), (64, 8), (30, 30), (8, 8)], ids=str)
@pytest.mark.parametrize("kernels", [(2, 1), (1, 3)], ids=str)
def test_a_convolution_of_planes_is_a_convolution(size, side, kernels):
    conv = nn.Conv2d(*kernels, size, padding=size // 2, bias=False).double()
    x = drawn(2, kernels[0], *side)
    agree(lambda x, _: plane_conv(conv, x), lambda x, _: conv(x), x, conv.weight)


def test_large_maps_are_convolved_in_blocks(monkeypatch):
    conv, seen = nn.Conv2d(2, 1, 7, padding=3, bias=False), []
    convolve = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, *rest, **more: (seen.append(x.shape), convolve(x, *rest, **more))[1])
    plane_conv(conv, torch.randn(2, 2, 32, 32))
    assert seen == [(2, 2 * BLOCK * BLOCK, 8, 8)]
    assert 16 * 16 < LARGE <= 32 * 32


def test_a_pointwise_convolution_is_a_matrix_product():
    conv = nn.Conv2d(6, 3, 1).double()
    agree(lambda x, *_: pointwise(conv, x), lambda x, *_: conv(x), drawn(4, 6, 1, 1), conv.weight, conv.bias)


def test_a_gate_that_needs_no_gradient_gets_none():
    x, gate = drawn(2, 3, 4, 4), drawn(2, 3, 1, 1).detach()
    gated(x, gate).sum().backward()
    torch.testing.assert_close(x.grad, gate.expand_as(x))
    gated(x.detach(), gate.requires_grad_()).sum().backward()
    torch.testing.assert_close(gate.grad, x.detach().sum((2, 3), keepdim=True))


@pytest.mark.parametrize("operation", [amax, deviation, gated, planes])
def test_gradients_are_the_slopes_of_the_operation(operation):
    x, gate = drawn(2, 3, 3, 4), drawn(2, 3, 1, 1)
    others = {amax: ((2, 3),), deviation: (1e-3,), gated: (gate,), planes: (gate,)}[operation]
    assert torch.autograd.gradcheck(operation, (x, *others))


OPERATIONS = pytest.mark.parametrize(
    "operation",
    [lambda x, gate: amax(x, (2, 3)), lambda x, gate: deviation(x, 1e-3), gated, planes],
    ids=["amax", "deviation", "gated", "planes"],
)


@OPERATIONS
def test_second_derivatives_are_the_slopes_of_the_first(operation):
    x, gate = drawn(2, 3, 3, 4), drawn(2, 3, 1, 1)
    assert torch.autograd.gradgradcheck(lambda x: operation(x, x.mean((2, 3), keepdim=True) * gate), x)


@OPERATIONS
def test_transforms_of_torch_func_see_the_operation(operation):
    x, gate = drawn(2, 3, 3, 4).detach(), drawn(1, 3, 1, 1).detach()
    expected = operation(x, gate)
    each = torch.func.vmap(lambda one: operation(one[None], gate)[0])(x)
    torch.testing.assert_close(each, expected)
    forward = torch.func.jvp(lambda x: operation(x, gate), (x,), (torch.ones_like(x),))[1].sum()
    backward = torch.func.grad(lambda x: operation(x, gate).sum())(x).sum()
    torch.testing.assert_close(forward, backward)


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_a_mean_in_float16_is_torchs_where_its_sum_is_beyond_float16(axes):
    x = drawn(1, 2, 56, 56).detach().half() + 22
    found = mean(x, axes)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, x.mean(axes), rtol=1e-3, atol=0)


# --- mechanisms: the textbook form as the oracle ------------------------------------------------------------------


def _eca(m: nn.Module, x: Tensor) -> Tensor:
    return x * F.conv1d(x.mean((2, 3))[:, None], m.mix.weight, padding=m.mix.padding).sigmoid()[:, 0, :, None, None]


def _cbam(m: nn.Module, x: Tensor) -> Tensor:
    x = x * (m.ca.fc(F.adaptive_avg_pool2d(x, 1)) + m.ca.fc(F.adaptive_max_pool2d(x, 1))).sigmoid()
    return x * m.sa.norm(m.sa.conv1(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1))).sigmoid()


def _bam(m: nn.Module, x: Tensor) -> Tensor:
    return x * (1 + (m.channel(F.adaptive_avg_pool2d(x, 1)) + m.spatial(x)).sigmoid())


def _coord(m: nn.Module, x: Tensor) -> Tensor:
    rows, columns = F.adaptive_avg_pool2d(x, (None, 1)), F.adaptive_avg_pool2d(x, (1, None)).transpose(2, 3)
    mixed = F.hardswish(m.norm(m.squeeze(torch.cat([rows, columns], 2))))
    rows, columns = mixed.split([x.shape[2], x.shape[3]], 2)
    return x * m.rows(rows).sigmoid() * m.columns(columns.transpose(2, 3)).sigmoid()


def _triplet(m: nn.Module, x: Tensor) -> Tensor:
    def turned(axes: str, *order: int) -> Tensor:
        y = x.permute(order)
        gate = m.branches[axes](torch.cat([y.max(1, keepdim=True)[0], y.mean(1, keepdim=True)], 1)).sigmoid()
        return (y * gate).permute([order.index(axis) for axis in range(4)])

    return (turned("cw", 0, 2, 1, 3) + turned("hc", 0, 3, 2, 1) + turned("hw", 0, 1, 2, 3)) / 3


def _simam(m: nn.Module, x: Tensor) -> Tensor:
    variance = x.var((2, 3), correction=0, keepdim=True)
    return x * ((x - x.mean((2, 3), keepdim=True)) ** 2 / (4 * (variance + m.regularisation)) + 0.5).sigmoid()


def _gc(m: nn.Module, x: Tensor) -> Tensor:
    weights = m.mask(x).flatten(2).softmax(2)
    return x + m.fc((x.flatten(2) * weights).sum(2)[..., None, None])


def _srm(m: nn.Module, x: Tensor) -> Tensor:
    mean, deviation = x.mean((2, 3)), (x.var((2, 3), correction=0) + 1e-5).sqrt()
    return x * m.norm((torch.stack([mean, deviation], 2) * m.cfc).sum(2)[..., None, None]).sigmoid()


def _gct(m: nn.Module, x: Tensor) -> Tensor:
    norm = m.alpha * ((x**2).sum((2, 3), keepdim=True) + m.epsilon).sqrt()
    return x * (1 + (m.gamma * norm / ((norm**2).mean(1, keepdim=True) + m.epsilon).sqrt() + m.beta).tanh())


TEXTBOOK = {
    "se": lambda m, x: x * m.fc(F.adaptive_avg_pool2d(x, 1).flatten(1)).sigmoid()[..., None, None],
    "eca": _eca,
    "cbam": _cbam,
    "bam": _bam,
    "coord": _coord,
    "triplet": _triplet,
    "simam": _simam,
    "gc": _gc,
    "srm": _srm,
    "gct": _gct,
}


def _drawn_module(name: str, side: tuple[int, int]) -> nn.Module:
    with seeded(0, name):
        module = build_attention(name, 16, side).double()
    for parameter in module.parameters():  # none at a value that hides what it does
        parameter.data += 0.2 * drawn(*parameter.shape).detach()
    return module


SIDES = pytest.mark.parametrize("side", [(7, 5), (32, 32)], ids=str)


@LAYOUTS
@SIDES
@pytest.mark.parametrize("name", TEXTBOOK)
def test_a_mechanism_computes_its_textbook_form(name, layout, side):
    module = _drawn_module(name, side)
    inputs = (drawn(8, 16, *side, layout=layout), *module.parameters())
    agree(lambda x, *_: module(x), lambda x, *_: TEXTBOOK[name](module, x), *inputs)


@LAYOUTS
@SIDES
@pytest.mark.parametrize("name", TEXTBOOK)
def test_in_float32_it_is_as_exact_as_its_textbook_form(name, layout, side):
    """As any processor may compute that form: some gradients are 0 but for rounding."""
    module = _drawn_module(name, side).float()
    exact, x = copy.deepcopy(module).double(), drawn(8, 16, *side, dtype=torch.float32, layout=layout)
    inputs, same = (x, *module.parameters()), (x.detach().double().requires_grad_(), *exact.parameters())
    found = outcome(lambda x, *_: module(x), inputs)
    close(found, lambda: outcome(lambda x, *_: TEXTBOOK[name](exact, x), same), inputs)
