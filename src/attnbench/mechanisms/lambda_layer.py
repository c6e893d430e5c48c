"""Lambda layer: the context becomes a linear function for each position, which is applied to its queries."""

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, divisor

PAPER = Paper(
    title="LambdaNetworks: Modeling Long-Range Interactions Without Attention",
    authors="Irwan Bello",
    venue="ICLR",
    year=2021,
    url="https://arxiv.org/abs/2102.08602",
    kind="R",
    paper_site="conv",
    parameters="C * (k * depth + depth + v) + 2 * k * depth + 2 * v + field**2 * depth + depth",
    where={"k": "divisor(C, heads)", "v": "C // k"},
    clamping="As many heads as the channels allow, at most `heads`.",
)


@attention("lambda_layer", PAPER)
class LambdaLayer(nn.Module):
    """Apply to each position's queries a linear map made of all content and of nearby positions (eq. 1-2)."""

    def __init__(self, channels: int, heads: int = 4, depth: int = 16, field: int = 9) -> None:
        super().__init__()
        if field < 1 or field % 2 == 0 or depth < 1:
            raise ValueError(f"field={field} must be odd and depth={depth} at least 1")
        self.heads, self.depth = divisor(channels, heads), depth
        self.values = channels // self.heads
        self.query = nn.Sequential(
            nn.Conv2d(channels, self.heads * depth, 1, bias=False), nn.BatchNorm2d(self.heads * depth)
        )
        self.key = nn.Conv2d(channels, depth, 1, bias=False)
        self.value = nn.Sequential(nn.Conv2d(channels, self.values, 1, bias=False), nn.BatchNorm2d(self.values))
        self.near = nn.Conv2d(1, depth, field, padding=field // 2)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        query = self.query(x).reshape(batch, self.heads, self.depth, -1)  # B h K N
        key = self.key(x).flatten(2).softmax(2)  # B K N
        value = self.value(x)  # B V H W
        content = key @ value.flatten(2).transpose(1, 2)  # B K V
        position = self.near(value.reshape(-1, 1, height, width)).reshape(batch, self.values, self.depth, -1)  # B V K N
        lambdas = content.transpose(1, 2).unsqueeze(3) + position  # B V K N
        return torch.einsum("bhkn,bvkn->bhvn", query, lambdas).reshape(x.shape)
