"""CIFAR-10 and CIFAR-100 from their official files."""

from pathlib import Path
from typing import Any

from attnbench.data import Raw, Source, dataset

# fmt: off
CIFAR10 = Source(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated; cite Krizhevsky 2009",
    classes=10,
    names=(
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    image_size=32,
    images={"train": 50000, "test": 10000},
    digests={"train": "8ebe185e1dd82143e13be0d2e5f746bd", "test": "b1dd0589665cd8442d7baf0b71406b57"},
    files=(("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a",
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),),
    reads=("cifar-10-batches-py",),
    version=2,
)
CIFAR100 = Source(
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar.html",
    licence="none stated; cite Krizhevsky 2009",
    classes=100,
    names=(
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
        "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee",
        "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant",
        "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower",
        "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
        "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate",
        "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark",
        "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower",
        "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor", "train", "trout", "tulip",
        "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
    ),
    image_size=32,
    images={"train": 50000, "test": 10000},
    digests={"train": "b3f92cfc89b9f710c734989b51e44392", "test": "aeeb17c343430c315c9001f7513b3f71"},
    files=(("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85",
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),),
    reads=("cifar-100-python",),
    version=2,
)
# fmt: on


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
    return Raw(reader.data, reader.targets)
