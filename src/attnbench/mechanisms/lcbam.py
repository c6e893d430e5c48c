"""Light CBAM: the two pools are averaged first, for the channels and for the positions."""

from torch import Tensor, nn

from attnbench.maps import amax, mean, plane_conv, planes
from attnbench.mechanisms import Paper, attention, reduced

PAPER = Paper(
    title="PyTorch Image Models",
    authors="Ross Wightman",
    venue="GitHub",
    year=2019,
    url="https://github.com/huggingface/pytorch-image-models",
    gate=(0.0, 1.0),
    parameters="2*C*h + kernel**2 + 2",
    where={"h": "reduced(C, reduction)"},
    deviations="A variant of CBAM (1807.06521) that timm has; there is no paper of its own.",
    clamping="At least one hidden channel.",
)


@attention("lcbam", PAPER)
class LightCBAM(nn.Module):
    """Gate channels by an MLP over the mean of average and maximum, then positions by a convolution of theirs."""

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        hidden = reduced(channels, reduction)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )
        self.conv = nn.Conv2d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def gate(self, x: Tensor) -> Tensor:
        """The product of both gates, B C H W, in (0, 1)."""
        channel = self.mlp((mean(x, (2, 3)) + amax(x, (2, 3))) / 2).sigmoid()[:, :, None, None]
        plane = mean(planes(x, channel), 1, keepdim=True)
        return channel * self.norm(plane_conv(self.conv, plane)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)
