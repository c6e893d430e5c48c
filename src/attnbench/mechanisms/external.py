"""External attention: positions attend to a small memory that all images share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention
from attnbench.mechanisms.lka import draw_by_outputs

PAPER = Paper(
    title="Beyond Self-Attention: External Attention Using Two Linear Layers for Visual Tasks",
    authors="Meng-Hao Guo and Zheng-Ning Liu and Tai-Jiang Mu and Shi-Min Hu",
    venue="IEEE Transactions on Pattern Analysis and Machine Intelligence",
    year=2023,
    url="https://arxiv.org/abs/2105.02358",
    parameters="C * C + C + 2 * C * memory + C * C + 2 * C",
    inert={"query.bias": "a softmax over positions does not see what it adds to all of them"},
    deviations="The block of the released code: a convolution before, a convolution with batch norm behind, a residual "
    "connection and a ReLU around the two layers of the equations. First weights are those of its class "
    "(MenghaoGuo/EANet at 59c03cb, model_torch.py): normal, of variance 2 over the outputs, the values the keys "
    "transposed. There both share one storage until the module is moved to a device; here they learn apart.",
    version=2,
)


@attention("external", PAPER)
class ExternalAttention(nn.Module):
    """Attend to `memory` learned slots, normalised over positions and then over slots (eq. 5-7)."""

    def __init__(self, channels: int, memory: int = 64) -> None:
        super().__init__()
        if memory < 1:
            raise ValueError(f"memory={memory} must be at least 1")
        self.query = nn.Conv2d(channels, channels, 1)
        self.keys = nn.Conv2d(channels, memory, 1, bias=False)
        self.values = nn.Conv2d(memory, channels, 1, bias=False)
        self.out = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        draw_by_outputs(self, biases=False)
        with torch.no_grad():
            nn.init.normal_(self.keys.weight, std=(2 / channels) ** 0.5)
            self.values.weight.copy_(self.keys.weight.transpose(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        similar = self.keys(self.query(x))  # B S H W
        shares = 100 * similar.flatten(2).softmax(2)  # over positions
        weights = shares / (1e-7 + shares.sum(1, keepdim=True))  # 1e-9 of the shares: ONNX's optimiser takes it for 0
        return F.relu(self.out(self.values(weights.reshape(similar.shape))) + x)
