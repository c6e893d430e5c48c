"""Dynamic convolution: each image is convolved with its own mix of kernels, whose weights sum to 1."""

import torch
from torch import Tensor, nn

from attnbench.maps import mean
from attnbench.mechanisms import Paper, attention, reduced
from attnbench.mechanisms.condconv import mixed_convolution

PAPER = Paper(
    title="Dynamic Convolution: Attention over Convolution Kernels",
    authors="Yinpeng Chen and Xiyang Dai and Mengchen Liu and Dongdong Chen and Lu Yuan and Zicheng Liu",
    venue="CVPR",
    year=2020,
    url="https://arxiv.org/abs/1912.03458",
    kind="R",
    paper_site="conv",
    parameters="kernels * 9 * C * C + kernels * C + C*h + h + h * kernels + kernels",
    where={"h": "reduced(C, reduction)"},
    deviations="The paper lowers the temperature from 30 to 1 over the first ten epochs; here it is an option and "
    "stays as it is, since no module knows the epoch.",
    clamping="At least one hidden channel.",
)


@attention("dyconv", PAPER)
class DynamicConv(nn.Module):
    """Convolve each image with a sum of kernels, weighed by a softmax of its averages (eq. 2-4)."""

    def __init__(self, channels: int, kernels: int = 4, reduction: int = 4, temperature: float = 30.0) -> None:
        super().__init__()
        if kernels < 1 or temperature <= 0:
            raise ValueError(f"kernels={kernels} must be at least 1 and temperature={temperature} above 0")
        hidden, self.temperature = reduced(channels, reduction), temperature
        self.attention = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, kernels))
        self.kernels = nn.Parameter(torch.empty(kernels * channels, channels, 3, 3))  # one below the other
        nn.init.kaiming_uniform_(self.kernels, a=5**0.5)
        self.biases = nn.Parameter(torch.zeros(kernels, channels))

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.attention(mean(x, (2, 3))) / self.temperature).softmax(1)  # B K
        return mixed_convolution(x, weights, self.kernels) + (weights @ self.biases)[:, :, None, None]
