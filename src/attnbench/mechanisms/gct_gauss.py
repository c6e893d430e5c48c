"""Gaussian context transformer: a channel is kept the more, the nearer its average is to that of all channels."""

import torch
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Gaussian Context Transformer",
    authors="Dongsheng Ruan and Daiyin Wang and Yuan Zheng and Nenggan Zheng and Min Zheng",
    venue="CVPR",
    year=2021,
    url="https://openaccess.thecvf.com/content/CVPR2021/html/Ruan_Gaussian_Context_Transformer_CVPR_2021_paper.html",
    gate=(0.0, 1.0),
    parameters="0",
    deviations="The parameter-free form with the constant deviation `c` (GCT-B0).",
)


@attention("gct_gauss", PAPER)
class GaussianContext(nn.Module):
    """Gate each channel by a Gaussian of its standardised average (eq. 2-6)."""

    def __init__(self, channels: int, c: float = 2.0, epsilon: float = 1e-5) -> None:
        super().__init__()
        if c <= 0:
            raise ValueError(f"c={c} must be positive")
        self.c, self.epsilon = c, epsilon

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1]."""
        pooled = mean(x, (2, 3), keepdim=True)
        centred = pooled - pooled.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        return torch.exp(-centred.square() / (variance + self.epsilon) / (2 * self.c**2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
