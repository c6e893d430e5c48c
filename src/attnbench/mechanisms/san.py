"""Self-attention network: a weight vector for each neighbour, from the difference of features and of positions."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out, runs
from attnbench.mechanisms import Paper, attention, divisor, reduced

PAPER = Paper(
    title="Exploring Self-attention for Image Recognition",
    authors="Hengshuang Zhao and Jiaya Jia and Vladlen Koltun",
    venue="CVPR",
    year=2020,
    url="https://arxiv.org/abs/2004.13621",
    kind="R",
    paper_site="conv",
    parameters="2 * (C + 1) * r + C * C + C + ((r + 2) * (r + 2) + 2 * r + r * w + w + 6) * (form == 'pairwise')"
    " + (2 * r * n + r * n * w + 2 * w + (w + 1) * w * (n - 1)) * (form == 'patchwise')",
    where={"r": "reduced(C, reduction)", "w": "divisor(C, max(1, C // shared))", "n": "kernel**2 + 1"},
    inert={
        "phi.bias": "a constant in front of a batch norm",
        "psi.bias": "a constant in front of a batch norm",
        "place.bias": "cancels in the difference of two places",
        "gamma.5.bias": "the softmax does not see what is equal for all neighbours",
    },
    deviations="As in the released code, the mapping gamma has batch norms, neighbours beyond the border are "
    "reflected, and a softmax over the neighbours follows in the pairwise form but not in the patchwise one. Its "
    "networks reduce four times as wide an input to `reduction` times fewer channels than come out; here both have "
    "the convolution's width.",
    clamping="At least one channel for the relation; every `shared` channels share their weights, or as many as divide "
    "the channels. Small maps are reflected as often as a window needs.",
)


@attention("san", PAPER)
class VectorAttention(nn.Module):
    """Sum the neighbours' values, weighed channel by channel by an MLP on their relation (eq. 2-5)."""

    def __init__(
        self,
        channels: int,
        form: Literal["pairwise", "patchwise"] = "pairwise",
        kernel: int = 7,
        reduction: int = 4,
        shared: int = 8,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        if shared < 1:
            raise ValueError(f"shared={shared} must be at least 1")
        relation, self.kernel, self.pairwise = reduced(channels, reduction), kernel, form == "pairwise"
        self.weights = divisor(channels, max(1, channels // shared))
        self.phi, self.psi = nn.Conv2d(channels, relation, 1), nn.Conv2d(channels, relation, 1)
        self.beta = nn.Conv2d(channels, channels, 1)
        if self.pairwise:
            self.place = nn.Conv2d(2, 2, 1)
            self.gamma = _mapping(relation + 2, relation, self.weights)
        else:
            self.gamma = _mapping(relation * (kernel**2 + 1), self.weights, self.weights * kernel**2)

    def forward(self, x: Tensor) -> Tensor:
        weights = self._pairwise(x) if self.pairwise else self._patchwise(x)  # B w KK N
        around = neighbours(self.beta(x), self.kernel).reshape(x.shape[0], -1, *weights.shape[1:])  # B C/w w KK N
        return laid_out(torch.einsum("bwkn,bswkn->bswn", weights, around).reshape(x.shape), x)

    def _pairwise(self, x: Tensor) -> Tensor:
        """Weights of each pair from the difference of its features and of its places."""
        relation = self.phi(x).flatten(2).unsqueeze(2) - neighbours(self.psi(x), self.kernel)  # B r KK N
        place = self.place(coordinates(x))
        apart = place.flatten(2).unsqueeze(2) - neighbours(place, self.kernel)  # 1 2 KK N
        return self.gamma(torch.cat([relation, apart.expand(x.shape[0], -1, -1, -1)], dim=1)).softmax(2)

    def _patchwise(self, x: Tensor) -> Tensor:
        """Weights of a whole neighbourhood from all its features at once."""
        patch = neighbours(self.psi(x), self.kernel).flatten(1, 2)  # B rKK N
        features = torch.cat([self.phi(x).flatten(2), patch], dim=1).unsqueeze(2)
        return self.gamma(features).reshape(x.shape[0], self.weights, self.kernel**2, -1)


def _mapping(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, outputs, 1),
    )


def neighbours(x: Tensor, kernel: int) -> Tensor:
    """Each position's neighbourhood, reflected at the border: B C KK N."""
    for dim in (2, 3):
        x = _reflected(x, kernel // 2, dim)
    around = F.unfold(x, kernel)
    return around.reshape(x.shape[0], x.shape[1], kernel**2, around.shape[2])


def _reflected(x: Tensor, margin: int, dim: int) -> Tensor:
    """Reflected however small the map is, and with a gradient that is deterministic on CUDA."""
    last = x.shape[dim] - 1
    if not runs(x):  # a recorded list of places would be that of this map's size
        places = (torch.arange(-margin, last + 1 + margin, device=x.device) % max(1, 2 * last)).long()
        return x.index_select(dim, last - (last - places).abs())
    before, behind = range(-margin, 0), range(last + 1, last + 1 + margin)
    mirrored = [[x.narrow(dim, _mirror(place, last), 1) for place in places] for places in (before, behind)]
    return torch.cat([*mirrored[0], x, *mirrored[1]], dim)


def _mirror(place: int, last: int) -> int:
    """Where a place beyond 0 to `last` is found again."""
    return last - abs(last - place % (2 * last)) if last else 0


def coordinates(x: Tensor) -> Tensor:
    """Each position's column and row, from -1 to 1: 1 2 H W."""
    height, width = x.shape[2:]
    rows, columns = (_ruler(length, x) for length in (height, width))
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)]).unsqueeze(0)


def _ruler(length: int, like: Tensor) -> Tensor:
    """`length` equal steps from -1 to 1; `torch.linspace` would fix a recorded length."""
    return torch.arange(length, device=like.device).to(like.dtype) * (2 / max(1, length - 1)) - 1
