"""Fashion-MNIST from its official files."""

from pathlib import Path

from attnbench.data import Raw, Source, dataset

# fmt: off
FASHION = Source(
    title="Fashion-MNIST",
    url="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    classes=10,
    names=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    image_size=28,
    channels=1,
    images={"train": 60000, "test": 10000},
    files=(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-labels-idx1-ubyte.gz",
            "25c81989df183df01b3e8a0aad5dffbe",
        ),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
            "bef4ecab320f06d8554ea6380940ec79",
        ),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    folder="FashionMNIST/raw",
    reads=(
        "FashionMNIST/raw/train-images-idx3-ubyte",
        "FashionMNIST/raw/train-labels-idx1-ubyte",
        "FashionMNIST/raw/t10k-images-idx3-ubyte",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte",
    ),
    version=2,
)
# fmt: on


@dataset("FashionMNIST", FASHION)
def fashion_mnist(root: Path, split: str) -> Raw:
    """70,000 grey images of 28 x 28 pixels in 10 classes."""
    from torchvision.datasets import FashionMNIST as Reader

    reader = Reader(root, train=split == "train")
    return Raw(reader.data.numpy()[..., None], reader.targets.numpy())
