"""Conditionally parameterised convolution: each image is convolved with its own mix of kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out, mean, runs
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
    authors="Brandon Yang and Gabriel Bender and Quoc V. Le and Jiquan Ngiam",
    venue="NeurIPS",
    year=2019,
    url="https://arxiv.org/abs/1904.04971",
    kind="R",
    paper_site="conv",
    parameters="experts * 9 * C * C + C * experts + experts",
    deviations="The routing matrix of equation 2 is a fully connected layer with biases, as released. In the released "
    "networks all convolutions of a block share one routing; here each has its own. They come with 4 and with 8 "
    "experts.",
)


@attention("condconv", PAPER)
class CondConv(nn.Module):
    """Convolve each image with a sum of `experts` kernels, weighed by sigmoids of its averages (eq. 1-2)."""

    def __init__(self, channels: int, experts: int = 4) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"experts={experts} must be at least 1")
        self.routing = nn.Linear(channels, experts)
        self.kernels = nn.Parameter(torch.empty(experts * channels, channels, 3, 3))  # one below the other
        nn.init.kaiming_uniform_(self.kernels, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.routing(mean(x, (2, 3))).sigmoid()  # B E
        return mixed_convolution(x, weights, self.kernels)


def mixed_convolution(x: Tensor, weights: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own sum of kernels, all images in one grouped convolution.

    Args:
        x: B C H W. weights: B E. kernels: E*O C 3 3.

    Returns:
        B O H W.
    """
    mixed = weights @ kernels.reshape(weights.shape[1], -1)  # B O*C*9
    if not runs(x):  # a recorded convolution would have as many groups as this batch has images
        patches = F.unfold(x, kernels.shape[2:], padding=1)  # B C*9 N
        return (mixed.unflatten(1, (-1, patches.shape[1])) @ patches).unflatten(2, x.shape[2:])
    images = x.reshape(1, -1, *x.shape[2:])
    found = F.conv2d(images, mixed.reshape(-1, *kernels.shape[1:]), padding=1, groups=x.shape[0])
    return laid_out(found.reshape(x.shape[0], -1, *x.shape[2:]), x)
