"""Second-order channel attention: an MLP over the rows of the normalised covariance of channels."""

import torch
from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention, reduced
from attnbench.mechanisms.gsop import covariance

PAPER = Paper(
    title="Second-order Attention Network for Single Image Super-Resolution",
    authors="Tao Dai and Jianrui Cai and Yongbing Zhang and Shu-Tao Xia and Lei Zhang",
    venue="CVPR",
    year=2019,
    url="https://openaccess.thecvf.com/content_CVPR_2019/html/"
    "Dai_Second-Order_Attention_Network_for_Single_Image_Super-Resolution_CVPR_2019_paper.html",
    gate=(0.0, 1.0),
    parameters="2*C*h + h + C",
    where={"h": "reduced(C, reduction)"},
    deviations="The MLP has the biases of the released code, which also takes the covariance of the middle 1,000 x "
    "1,000 pixels only where a map is larger.",
    clamping="At least one hidden channel. A trace of 0 (a map of one position) counts as 1e-12.",
)


@attention("soca", PAPER)
class SOCA(nn.Module):
    """Gate each channel by an MLP over the row means of the covariance matrix's square root (section 3.3)."""

    def __init__(self, channels: int, reduction: int = 16, iterations: int = 5) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"iterations={iterations} must be at least 1")
        hidden, self.iterations = reduced(channels, reduction), iterations
        self.fc = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def gate(self, x: Tensor) -> Tensor:
        """The channel gate, B C 1 1, in (0, 1)."""
        root = square_root(covariance(x), self.iterations)  # B C C
        return self.fc(root.mean(1)).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def square_root(matrix: Tensor, iterations: int) -> Tensor:
    """Newton and Schulz's iteration towards the root of a positive matrix, B C C, scaled by its trace before."""
    trace = matrix.diagonal(dim1=1, dim2=2).sum(1)[:, None, None].clamp_min(1e-12)
    unit = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    root, inverse = matrix / trace, unit.expand_as(matrix)
    for _ in range(iterations):
        step = (3 * unit - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    return root * trace.sqrt()
