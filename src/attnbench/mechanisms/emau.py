"""Expectation-maximisation attention: positions are rebuilt from a few bases that are found anew for each image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out, narrow, runs, wide
from attnbench.mechanisms import Paper, attention
from attnbench.mechanisms.lka import draw_by_outputs

PAPER = Paper(
    title="Expectation-Maximization Attention Networks for Semantic Segmentation",
    authors="Xia Li and Zhisheng Zhong and Jianlong Wu and Yibo Yang and Zhouchen Lin and Hong Liu",
    venue="ICCV",
    year=2019,
    url="https://arxiv.org/abs/1907.13426",
    paper_site="stage",
    paper_stages=(-1,),
    parameters="C * C + C + C * C + 2 * C",
    deviations="The bases that an image starts from are a buffer, a moving average of those found in training, as "
    "released. The released code finds bases and shares without a gradient, so that its first convolution "
    "never learns; here the steps are differentiated. First weights are those of its class (XiaLiPKU/EMANet at "
    "f09ffac, network.py): normal, of variance 2 over the outputs. The average moves at the end of a backward pass.",
    version=2,
)


@attention("emau", PAPER)
class EMAttention(nn.Module):
    """Rebuild every position from `bases` vectors that a few steps of expectation-maximisation find (eq. 10-14)."""

    bases: Tensor

    def __init__(self, channels: int, bases: int = 64, steps: int = 3, momentum: float = 0.9) -> None:
        super().__init__()
        if bases < 1 or steps < 1:
            raise ValueError(f"bases={bases} and steps={steps} must be at least 1")
        self.steps, self.momentum = steps, momentum
        start = F.normalize(torch.randn(1, channels, bases) * (2 / bases) ** 0.5, dim=1)
        self.register_buffer("bases", start)
        self.into = nn.Conv2d(channels, channels, 1)
        self.out = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        draw_by_outputs(self, biases=False)

    def forward(self, x: Tensor) -> Tensor:
        features = wide(self.into(x)).flatten(2)  # B C N
        bases = self.bases.to(features.dtype, copy=True).expand(x.shape[0], -1, -1)  # the buffer will move
        for _ in range(self.steps):
            shares = (features.transpose(1, 2) @ bases).softmax(2)  # E: B N K
            weights = shares / (1e-6 + shares.sum(1, keepdim=True))
            bases = F.normalize(features @ weights, dim=1)  # M: B C K
        rebuilt = F.relu(narrow(bases @ shares.transpose(1, 2), x).reshape(x.shape))
        if self.training:
            self._follow(bases.detach().mean(0, keepdim=True), features)
        return laid_out(F.relu(self.out(rebuilt) + x), x)

    def _follow(self, found: Tensor, features: Tensor) -> None:
        """Move the bases towards those found at the end of the backward pass, when nothing is computed from them again.

        A forward pass moves nothing: gradient checkpointing makes two of them, and both must see the same bases.
        """

        def move(_: object = None) -> None:
            with torch.no_grad():
                self.bases.mul_(self.momentum).add_((1 - self.momentum) * found)

        if not runs(features):
            move()  # a recorded step has no hooks; what it computes again, it computes from a copy
        elif features.requires_grad:
            features.register_hook(move)
