"""Modules with one deliberate fault each, as published collections have them; and a sound one.

They are loaded by their paths, as somebody's own modules are, and never imported by a test.
"""

import copy

import torch
from torch import Tensor, nn

from attnbench.catalogue.cards import Paper
from attnbench.mechanisms import attention


class Sound(nn.Module):
    """A sound channel gate: the others differ from it in one thing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Linear(channels, channels)

    def gate(self, x: Tensor) -> Tensor:
        return self.mix(x.mean((2, 3))).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class FixedWidth(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(64)


class LosesAPixel(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :, : max(1, x.shape[2] // 2 * 2)]


class RefusesASinglePixel(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(super().forward(x), 2)


class DividesByTheSpread(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True, correction=0)


class TooWideForItself(Sound):
    def __init__(self, channels: int) -> None:
        if channels > 256:
            raise ValueError(f"channels={channels} must be at most 256")
        super().__init__(channels)


class LayersInAList(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = [nn.Conv2d(channels, channels, 1)]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers[0](x).sigmoid()


class NoParameters(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


@attention("broken-formula", Paper(title="Another count", parameters="C*C"))
class OtherCount(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)


class NeverCalled(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)


class DataOfAWeight(Sound):
    def gate(self, x: Tensor) -> Tensor:
        weight, pooled = self.mix.weight.data, x.mean((2, 3))
        return nn.functional.linear(pooled, weight, self.mix.bias).sigmoid()[:, :, None, None]


@attention("broken-inert", Paper(title="Says that it rests", inert={"mix.bias": "it is said"}))
class SaysItRests(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)


@attention("broken-no-decay", Paper(title="Names no parameter", no_decay=("beta",)))
class NamesNoParameter(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)


@attention("broken-range", Paper(title="A gate without its sigmoid", gate=(0.0, 1.0)))
class NoSigmoid(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def gate(self, x: Tensor) -> Tensor:
        return self.mix(x.mean((2, 3)))[:, :, None, None]


@attention("broken-relu", Paper(title="A ReLU before the sigmoid", gate=(0.0, 1.0)))
class ReluBeforeSigmoid(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def gate(self, x: Tensor) -> Tensor:
        return self.mix(x.mean((2, 3))).relu().sigmoid()[:, :, None, None]


class GateIsALayer(nn.Module):
    """Sound: its layer happens to be called as the method is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Linear(channels, channels)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.mix(x.mean((2, 3))))[:, :, None, None]


class GateIsNotTheFactor(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.gate(x)


class SoftmaxOverTheBatch(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return self.mix(x.mean((2, 3))).softmax(0)[:, :, None, None]


class InPlace(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.gate(x))


class MaskOnTheCpu(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x) * torch.ones(x.shape[1], 1, 1, device="cpu")


class OneDtype(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x).float()


class ReadsMemoryOrder(Sound):
    def gate(self, x: Tensor) -> Tensor:
        order = torch.arange(1.0, 1 + x.numel() // len(x), dtype=x.dtype).to(x.device)
        if not x.is_contiguous():
            order = order.flip(0)
        return (super().gate(x) * order.reshape(1, *x.shape[1:])).sin()


class FiveAxes(Sound):
    """As stacked kernels have them, which `to(memory_format=torch.channels_last)` refuses."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.kernels = nn.Parameter(torch.ones(1, 2, channels, 1, 1))

    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x) * self.kernels.sum((0, 1))


class LosesItsLayout(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous()


class OneLayerTwice(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.again = self.mix


class FirstRowAlone(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x[:, :, :1])


class PositionsForChannels(Sound):
    """B C H W read as B HW C without a transposition: values of other channels and places come together."""

    def gate(self, x: Tensor) -> Tensor:
        tokens = x.reshape(x.shape[0], -1, x.shape[1])
        return self.mix(tokens).sigmoid().reshape(x.shape)


@attention("broken-places", Paper(title="Says that places matter", positions="it is said"))
class SaysThatPlacesMatter(Sound):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)


class SumsInHalf(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return self.mix(x.sum((2, 3)) / (x.shape[2] * x.shape[3])).sigmoid()[:, :, None, None]


class FixesTheBatch(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x).reshape(len(x), -1, 1, 1)


class FixesTheSize(Sound):
    """A loop over rows is as long in the exported program as it was on the map that was shown."""

    def gate(self, x: Tensor) -> Tensor:
        rows = [x[:, :, row].mean(2) for row in range(x.shape[2])]
        return self.mix(torch.stack(rows).mean(0)).sigmoid()[:, :, None, None]


class UnknownToOnnx(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return self.mix(torch.special.bessel_j0(x.mean((2, 3)).float()).to(x.dtype)).sigmoid()[:, :, None, None]


class ForgetsItsState(Sound):
    built = 0

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        ForgetsItsState.built += 1
        self.scale = ForgetsItsState.built

    def gate(self, x: Tensor) -> Tensor:
        return super().gate(x) * self.scale


class SharesItsWeights(Sound):
    def __deepcopy__(self, memo: dict) -> "SharesItsWeights":
        return copy.copy(self)


class BranchesOnData(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x) if x.sum() > 0 else x


class OtherEachTime(Sound):
    times = 0

    def forward(self, x: Tensor) -> Tensor:
        OtherEachTime.times += 1
        return super().forward(x) / OtherEachTime.times


class Straight(torch.autograd.Function):
    """A step whose gradient is said to be 1."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class StraightThrough(Sound):
    def gate(self, x: Tensor) -> Tensor:
        return Straight.apply(super().gate(x) - 0.5)
