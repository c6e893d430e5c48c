"""Contextual transformer: a convolved static context guides local attention, and both are fused by channel weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.maps import laid_out, mean
from attnbench.mechanisms import Paper, attention, divisor, reduced

PAPER = Paper(
    title="Contextual Transformer Networks for Visual Recognition",
    authors="Yehao Li and Ting Yao and Yingwei Pan and Tao Mei",
    venue="IEEE Transactions on Pattern Analysis and Machine Intelligence",
    year=2023,
    url="https://arxiv.org/abs/2107.12292",
    kind="R",
    paper_site="conv",
    parameters="9 * C * C // g + 2 * C * h + 2 * h + 9 * h * s + 27 * s + C * C + 3 * C * a + 3 * a + 8 * C",
    where={"g": "divisor(C, 4)", "h": "reduced(C, 2)", "s": "divisor(C, C // shared)", "a": "reduced(C, 2, 32)"},
    inert={"fuse.0.bias": "a constant in front of a batch norm"},
    deviations="Norms, activations and the fusion by split attention are those of the released code; the equations add "
    "both contexts.",
    clamping="Every `shared` channels share their local weights, or as many as divide the channels; at least 32 hidden "
    "channels in the fusion. "
    "A batch of one image is refused in training, by the batch norm behind the pooling.",
)


@attention("cot", PAPER)
class ContextualTransformer(nn.Module):
    """Weigh each 3x3 neighbourhood by weights from features and their convolved context, then fuse both (eq. 2-5)."""

    def __init__(self, channels: int, shared: int = 8) -> None:
        super().__init__()
        if not 1 <= shared <= channels:
            raise ValueError(f"shared={shared} must be between 1 and the {channels} channels")
        hidden, fused = reduced(channels, 2), reduced(channels, 2, 32)
        self.weights = divisor(channels, channels // shared)
        self.context = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=divisor(channels, 4), bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.embed = nn.Sequential(
            nn.Conv2d(2 * channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, 9 * self.weights, 1),
            nn.GroupNorm(self.weights, 9 * self.weights),
        )
        self.value = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.norm = nn.Sequential(nn.BatchNorm2d(channels), nn.SiLU())
        self.fuse = nn.Sequential(
            nn.Conv2d(channels, fused, 1), nn.BatchNorm2d(fused), nn.ReLU(), nn.Conv2d(fused, 2 * channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        static = self.context(x)
        positions = x.shape[2] * x.shape[3]
        kernels = self.embed(torch.cat([x, static], dim=1)).reshape(x.shape[0], self.weights, 9, positions)
        around = F.unfold(self.value(x), 3, padding=1).reshape(x.shape[0], -1, self.weights, 9, positions)
        dynamic = self.norm(torch.einsum("bwkn,bswkn->bswn", kernels, around).reshape(x.shape))
        logits = self.fuse(mean(dynamic + static, (2, 3), keepdim=True)).reshape(x.shape[0], -1, 2, 1, 1)
        shares = logits.softmax(2)  # B C 2 1 1
        return laid_out(dynamic * shares[:, :, 0] + static * shares[:, :, 1], x)
