"""Large kernel attention: a 21x21 receptive field of three cheap convolutions, multiplied with the input."""

from torch import Tensor, nn

from attnbench.mechanisms import Paper, attention

PAPER = Paper(
    title="Visual Attention Network",
    authors="Meng-Hao Guo and Cheng-Ze Lu and Zheng-Ning Liu and Ming-Ming Cheng and Shi-Min Hu",
    venue="Computational Visual Media",
    year=2023,
    url="https://arxiv.org/abs/2202.09741",
    parameters="25 * C + C + 49 * C + C + C * C + C",
    deviations="The attention alone, without the projections and the GELU that stand around it in the paper's network. "
    "The factor has no bound: there is no sigmoid in paper or code. The class leaves torch's first weights, with which "
    "the factor is nearly 0; those here are what the network's own loop draws "
    "(Visual-Attention-Network/VAN-Classification at e19779b, models/van.py): "
    "normal, of variance 2 over the outputs that a weight has, and biases of 0.",
    version=2,
)


@attention("lka", PAPER)
class LargeKernelAttention(nn.Module):
    """Multiply by a 5x5, a dilated 7x7 depthwise and a 1x1 convolution of the input (eq. 3-4)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.wide = nn.Conv2d(channels, channels, 7, padding=9, groups=channels, dilation=3)
        self.mix = nn.Conv2d(channels, channels, 1)
        draw_by_outputs(self)

    def gate(self, x: Tensor) -> Tensor:
        """The factor, B C H W, without bounds."""
        return self.mix(self.wide(self.local(x)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def draw_by_outputs(module: nn.Module, biases: bool = True) -> None:
    """Draw each convolution's weights with the variance 2 / (kernel area * outputs / groups); set its bias to 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            outputs = part.weight[0, 0].numel() * part.out_channels // part.groups
            nn.init.normal_(part.weight, std=(2 / outputs) ** 0.5)
            if biases and part.bias is not None:
                nn.init.zeros_(part.bias)
