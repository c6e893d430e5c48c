"""Channel attention of DANet: every channel sums all channels weighed by a softmax of their similarities."""

from typing import Literal

import torch
from torch import Tensor, nn

from attnbench.maps import laid_out, narrow, wide
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Dual Attention Network for Scene Segmentation",
    authors="Jun Fu and Jing Liu and Haijie Tian and Yong Li and Yongjun Bao and Zhiwei Fang and Hanqing Lu",
    venue="CVPR",
    year=2019,
    url="https://arxiv.org/abs/1809.02983",
    paper_site="stage",
    paper_stages=(-1,),
    parameters="1",
    deviations="Equation 3 is a softmax of the similarities of channels; the released code takes it of each channel's "
    'largest similarity minus the similarity, so that unlike channels weigh more (variant="official").',
)


@attention("cam", PAPER)
class ChannelAttention(nn.Module):
    """Add all channels' maps, weighed by their similarity, times a learned number (eq. 3-4)."""

    def __init__(self, channels: int, variant: Literal["paper", "official"] = "paper") -> None:
        super().__init__()
        self.official = variant == "official"
        self.beta = nn.Parameter(torch.zeros(1))  # starts as identity

    def forward(self, x: Tensor) -> Tensor:
        maps = wide(x).flatten(2)  # B C N
        energy = maps @ maps.transpose(1, 2)  # B C C
        if self.official:
            energy = energy.amax(2, keepdim=True) - energy
        mixed = narrow(energy.softmax(2) @ maps, x).reshape(x.shape)
        return laid_out(self.beta * mixed + x, x)
