"""SimAM: a gate for every value from how far it lies from its map's mean; no parameters."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from attnbench.maps import mean, narrow, runs, slopes, wide
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks",
    authors="Lingxiao Yang and Ru-Yuan Zhang and Lida Li and Xiaohua Xie",
    venue="ICML",
    year=2021,
    url="https://proceedings.mlr.press/v139/yang21o.html",
    gate=(0.622459, 1.0),
    parameters="0",
    deviations="The paper's variance divides by the number of positions M, the released code's by M - 1 "
    '(variant="official"; on a map of one position, where that is 0, by 1). The released ResNets have the module '
    "right behind the 3x3 convolution and before its batch norm.",
    clamping="On a map of one position the gate is sigmoid(1/2), its least value.",
)


@attention("simam", PAPER)
class SimAM(nn.Module):
    """Gate each value by the inverse of its minimal energy: far from its map's mean is salient (eq. 5-6)."""

    def __init__(
        self, channels: int, regularisation: float = 1e-4, variant: Literal["paper", "official"] = "paper"
    ) -> None:
        super().__init__()
        if not regularisation > 0:
            raise ValueError(f"regularisation={regularisation} must be above 0")
        self.regularisation, self.unbiased = regularisation, variant == "official"

    def gate(self, x: Tensor) -> Tensor:
        """The gate of every value, B C H W, from sigmoid(1/2) to 1."""
        return _plain_gate(x, self.regularisation, self.unbiased)

    def forward(self, x: Tensor) -> Tensor:
        if not runs(x):
            return x * self.gate(x)
        gated: Tensor = _Energy.apply(x, self.regularisation, self.unbiased)
        return gated


class _Energy(torch.autograd.Function):
    """x times its gate, keeping x and one number a map for the backward pass; torch by itself keeps five maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, regularisation: float, unbiased: bool) -> Tensor:
        distance = x - mean(x, (2, 3), keepdim=True)
        sharpness = _sharpness(distance, regularisation, unbiased)
        ctx.save_for_backward(x, sharpness)
        ctx.regularisation, ctx.unbiased = regularisation, unbiased
        return _gate(distance, sharpness).mul_(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        x, sharpness = ctx.saved_tensors
        if torch.is_grad_enabled():
            return slopes(lambda x: x * _plain_gate(x, ctx.regularisation, ctx.unbiased), grad, x)[0], None, None
        distance = x - mean(x, (2, 3), keepdim=True)
        gate = _gate(distance, sharpness)
        slope = (1 - gate).mul_(gate).mul_(x).mul_(grad)  # of the exponent, sharpness * distance^2 + 1/2
        blunter = (slope * distance).mul_(distance).sum((2, 3), keepdim=True)  # of the sharpness, 1 / (4 (v + lambda))
        slope.sub_(blunter * (4 * sharpness / _positions(x, ctx.unbiased))).mul_(distance).mul_(2 * sharpness)
        slope.sub_(mean(slope, (2, 3), keepdim=True))
        return slope.add_(gate.mul_(grad)), None, None


def _plain_gate(x: Tensor, regularisation: float, unbiased: bool) -> Tensor:
    distance = x - mean(x, (2, 3), keepdim=True)
    return (distance.square() * _sharpness(distance, regularisation, unbiased) + 0.5).sigmoid()


def _gate(distance: Tensor, sharpness: Tensor) -> Tensor:
    return distance.square().mul_(sharpness).add_(0.5).sigmoid_()


def _sharpness(distance: Tensor, regularisation: float, unbiased: bool) -> Tensor:
    """One over four times the regularised variance of each map, B C 1 1."""
    variance = wide(distance.square()).sum((2, 3), keepdim=True) / _positions(distance, unbiased)
    return narrow(1 / (4 * (variance + regularisation)), distance)


def _positions(x: Tensor, unbiased: bool) -> int:
    return max(1, x.shape[2] * x.shape[3] - int(unbiased))
