"""Oxford 102 Flowers from its official files and split."""

from pathlib import Path

from attnbench.data import Raw, Source, dataset

FLOWERS = Source(
    title="Oxford 102 Flowers",
    url="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    licence="none stated; images from the web, for research; cite Nilsback and Zisserman 2008",
    classes=102,
    image_size=224,
    splits=("train", "val", "test"),
    images={"train": 1020, "val": 1020, "test": 6149},
    files=(
        (
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz",
            "52808999861908f626f3c1f4e79d11fa",
        ),
        (
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/imagelabels.mat",
            "e0620be6f572b9609742df49c70aed4d",
        ),
        ("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
    ),
    folder="flowers-102",
    reads=("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),
    note="The official release has exact duplicates across splits: 7307 (train) is 7309 (test), "
    "8077 (val) is 8067 (test). Images are resized to a square, as the classic code does.",
)


@dataset("Oxford102Flowers", FLOWERS)
def oxford_102_flowers(root: Path, split: str) -> Raw:
    """8,189 colour images of any size in 102 classes; the official train, validation and test splits."""
    from torchvision.datasets import Flowers102 as Reader

    reader = Reader(root, split=split)
    return Raw(reader._image_files, reader._labels, reader.classes)
