"""CIFAR-10 and CIFAR-100 from their official files."""

from pathlib import Path
from typing import Any

from attnbench.data import Raw, Source, dataset

CIFAR10 = Source(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated; cite Krizhevsky 2009",
    classes=10,
    image_size=32,
    images={"train": 50000, "test": 10000},
    files=(("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
    reads=("cifar-10-batches-py",),
)
CIFAR100 = Source(
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated; cite Krizhevsky 2009",
    classes=100,
    image_size=32,
    images={"train": 50000, "test": 10000},
    files=(("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),),
    reads=("cifar-100-python",),
)


@dataset("CIFAR10", CIFAR10)
def cifar10(root: Path, split: str) -> Raw:
    """60,000 colour images of 32 x 32 pixels in 10 classes."""
    from torchvision.datasets import CIFAR10 as Reader

    return _raw(Reader(root, train=split == "train"))


@dataset("CIFAR100", CIFAR100)
def cifar100(root: Path, split: str) -> Raw:
    """60,000 colour images of 32 x 32 pixels in 100 classes."""
    from torchvision.datasets import CIFAR100 as Reader

    return _raw(Reader(root, train=split == "train"))


def _raw(reader: Any) -> Raw:
    return Raw(reader.data, reader.targets, reader.classes)
