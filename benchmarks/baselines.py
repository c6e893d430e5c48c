"""What ours is measured against: the classic loop, timm's training step, PIL transforms, and convolutions alone."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from attnbench.networks.network import network

Step = Callable[[], object]


class TextbookSE(nn.Module):
    """Squeeze and excitation as tutorials have it."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        hidden = max(1, channels // reduction)
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        return x * self.fc(self.pool(x).view(batch, channels)).view(batch, channels, 1, 1).expand_as(x)


class TextbookCBAM(nn.Module):
    """The convolutional block attention module as tutorials have it."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.average, self.maximum = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.fc(self.average(x)) + self.fc(self.maximum(x)))
        planes = torch.cat([torch.mean(x, dim=1, keepdim=True), torch.max(x, dim=1, keepdim=True)[0]], dim=1)
        return x * torch.sigmoid(self.conv(planes))


TEXTBOOK: dict[str, type[nn.Module] | None] = {"none": None, "se": TextbookSE, "cbam": TextbookCBAM}


def textbook(backbone: str, attention: str, classes: int = 10, side: int = 32) -> nn.Module:
    """The plain backbone with the textbook module behind the last batch norm of every block."""
    model, kind = network(backbone, "none", classes, 0, 3, side), TEXTBOOK[attention]
    last = ".bn3" if any(path.endswith(".bn3") for path, _ in model.named_modules()) else ".bn2"
    for path, module in list(model.named_modules()) if kind else []:
        if kind and path.endswith(last) and path.startswith("layer"):
            model.set_submodule(path, nn.Sequential(module, kind(module.num_features)))
    return model


def classic_step(model: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """The published pipeline's step: NCHW, fp32, AdamW, and `.item()` for the running loss and accuracy."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    model.train()

    def step() -> float:
        optimizer.zero_grad()
        outputs = model(images)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        return float(loss.item() * len(images) + outputs.max(1)[1].eq(labels).sum().item())

    return step


def timm_step(model: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """timm's training step, from its own parts: task, optimiser factory, gradient dispatch and meter."""
    from timm.optim import create_optimizer_v2
    from timm.task import ClassificationTask
    from timm.utils import AverageMeter

    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=1e-4)
    task, meter = ClassificationTask(model, nn.CrossEntropyLoss(), verbose=False), AverageMeter()
    task.train()

    def step() -> None:
        loss = task(images, labels)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        meter.update(loss.item(), len(images))

    return step


def pil_batches(images: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    """Crop, flip and normalise image by image, as most loops do."""
    through = transforms.Compose(
        [
            transforms.RandomCrop(images.shape[1], padding=images.shape[1] // 8),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )
    for start in range(0, len(images), batch_size):
        yield torch.stack([through(Image.fromarray(image)) for image in images[start : start + batch_size]])


def convolutions(model: nn.Module, images: Tensor) -> Step:
    """All convolutions of a network, forward and the needed backward, and nothing else."""
    calls: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def note(conv: nn.Conv2d, given: tuple[Tensor], out: Tensor) -> None:
        x = given[0].detach().clone(memory_format=torch.preserve_format).requires_grad_(bool(calls))
        calls.append((conv, x, torch.randn_like(out)))

    hooks = [part.register_forward_hook(note) for part in model.modules() if isinstance(part, nn.Conv2d)]
    model.train()(images)
    for hook in hooks:
        hook.remove()

    def step() -> None:
        for conv, x, grad in calls:
            x.grad = conv.weight.grad = None
            F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups).backward(grad)

    return step
