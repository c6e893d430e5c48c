"""Mixed local channel attention: ECA's convolution over local and global averages, mixed."""

import math

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention
from attnbench.mechanisms.fca import windows

PAPER = Paper(
    title="Mixed local channel attention for object detection",
    authors="Dahang Wan and Rongsheng Lu and Siyuan Shen and Ting Xu and Xianli Lang and Zhijie Ren",
    venue="Engineering Applications of Artificial Intelligence",
    year=2023,
    url="https://doi.org/10.1016/j.engappai.2023.106442",
    gate=(0.0, 1.0),
    parameters="2 * (t + (t + 1) % 2)",
    positions="averages are those of the cells of a fixed grid",
    where={"t": "floor((log2(C) + 1) / 2)"},
    deviations="As released, the local convolution runs through all patches in one sequence, so that the last channels "
    "of a patch meet the first of the next; the global average is that of the patches.",
    clamping="The kernel follows the width. Maps smaller than the patch grid are averaged up to it.",
)


@attention("mlca", PAPER)
class MLCA(nn.Module):
    """Gate by a mix of convolutions across channels, of the whole map's averages and of each patch's."""

    def __init__(self, channels: int, patches: int = 5, local_weight: float = 0.5) -> None:
        super().__init__()
        if patches < 1:
            raise ValueError(f"patches={patches} must be at least 1")
        if not 0 < local_weight < 1:
            raise ValueError(f"local_weight={local_weight} must be between 0 and 1")
        kernel = int((math.log2(channels) + 1) / 2)
        kernel += 1 - kernel % 2
        self.patches, self.local_weight = patches, local_weight
        self.conv_global = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        """The mixed gate, B C H W, in (0, 1)."""
        grid = self.patches
        down, across = windows(grid, x.shape[2], x), windows(grid, x.shape[3], x)
        local = (down @ x @ across.T).flatten(2).transpose(1, 2)  # B P C
        whole = self.conv_global(local.mean(1, keepdim=True)).sigmoid()  # B 1 C
        local = self.conv_local(local.reshape(x.shape[0], 1, -1)).sigmoid().reshape(local.shape)
        mixed = (1 - self.local_weight) * whole + self.local_weight * local  # B P C
        mixed = mixed.transpose(1, 2).reshape(*x.shape[:2], grid, grid)
        return windows(x.shape[2], grid, x) @ mixed @ windows(x.shape[3], grid, x).T

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
