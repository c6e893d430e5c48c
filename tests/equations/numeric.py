"""Textbook operations on numpy arrays, which the references of the papers' equations are written with.

Nothing here is shared with the mechanisms: no torch. Arrays are B C H W unless a docstring says otherwise.
"""

import numpy as np
from scipy.special import erf, expit

Array = np.ndarray
sigmoid = expit


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + erf(x / np.sqrt(2.0)))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def hard_sigmoid(x: Array) -> Array:
    return np.clip(x + 3.0, 0.0, 6.0) / 6.0


def hard_swish(x: Array) -> Array:
    return x * hard_sigmoid(x)


def softmax(x: Array, axis: int) -> Array:
    raised = np.exp(x - x.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


def conv(
    x: Array,
    weight: Array,
    bias: Array | float = 0.0,
    stride: int = 1,
    padding: int | tuple[int, int] | None = None,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Array:
    """2-D cross-correlation: B C H W with O C/groups K L; zeros around, as many as keep the size unless said."""
    tall, wide = weight.shape[2:]
    dy, dx = (dilation, dilation) if isinstance(dilation, int) else dilation
    if padding is None:
        padding = dy * (tall - 1) // 2, dx * (wide - 1) // 2
    py, px = (padding, padding) if isinstance(padding, int) else padding
    x = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    height = (x.shape[2] - dy * (tall - 1) - 1) // stride + 1
    width = (x.shape[3] - dx * (wide - 1) - 1) // stride + 1
    inputs = x.reshape(len(x), groups, -1, *x.shape[2:])
    kernels = weight.reshape(groups, -1, *weight.shape[1:])
    out = np.zeros((len(x), groups, kernels.shape[1], height, width))
    for i, j in np.ndindex(tall, wide):
        window = inputs[..., i * dy : i * dy + stride * (height - 1) + 1 : stride, :]
        window = window[..., j * dx : j * dx + stride * (width - 1) + 1 : stride]
        out += np.einsum("bgchw,goc->bgohw", window, kernels[..., i, j])
    return out.reshape(len(x), -1, height, width) + np.asarray(bias).reshape(1, -1, 1, 1)


def conv1d(x: Array, weight: Array, bias: Array | float = 0.0, groups: int = 1) -> Array:
    """1-D cross-correlation that keeps the length: B C L with O C/groups K."""
    return conv(x[:, :, None], weight[:, :, None], bias, padding=(0, weight.shape[-1] // 2), groups=groups)[:, :, 0]


def linear(x: Array, weight: Array, bias: Array | float = 0.0) -> Array:
    """... C with O C; also takes the weight of a 1x1 convolution."""
    return x @ weight.reshape(weight.shape[:2]).T + bias


def batch_norm(x: Array, w: dict[str, Array], prefix: str, eps: float = 1e-5) -> Array:
    """As in evaluation, by the running statistics under `prefix`; B C ... ; affine where there are weights."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    x = (x - w[f"{prefix}.running_mean"].reshape(shape)) / np.sqrt(w[f"{prefix}.running_var"].reshape(shape) + eps)
    if f"{prefix}.weight" not in w:
        return x
    return x * w[f"{prefix}.weight"].reshape(shape) + w[f"{prefix}.bias"].reshape(shape)


def group_norm(x: Array, groups: int, w: dict[str, Array], prefix: str, eps: float = 1e-5) -> Array:
    """B C ..., normalised over each image's groups of channels; affine where there are weights."""
    parts = x.reshape(len(x), groups, -1)
    parts = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + eps)
    x, shape = parts.reshape(x.shape), (1, -1, *[1] * (x.ndim - 2))
    return (
        x * w[f"{prefix}.weight"].reshape(shape) + w[f"{prefix}.bias"].reshape(shape) if f"{prefix}.weight" in w else x
    )


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Over the last axis."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def adaptive_mean(x: Array, size: tuple[int, int]) -> Array:
    """Means over size[0] x size[1] windows that start at floor(i h / n) and end at ceil((i + 1) h / n)."""
    (rows, columns), (height, width) = size, x.shape[2:]
    out = np.empty((*x.shape[:2], rows, columns))
    for i, j in np.ndindex(rows, columns):
        top, bottom = i * height // rows, -(-(i + 1) * height // rows)
        left, right = j * width // columns, -(-(j + 1) * width // columns)
        out[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
    return out
