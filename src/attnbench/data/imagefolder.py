"""Any folder of images with one folder a class."""

from pathlib import Path
from typing import Any

from attnbench.data import Raw, Source, dataset
from attnbench.errors import DataProblem

FOLDER = Source(
    title="A folder of images",
    splits=("train", "test"),
    note='imagefolder(path="mine/train", test="mine/test"), relative to the data folder; without test, '
    "20 % of each class are the test split, chosen by the files' content.",
)


@dataset("imagefolder", FOLDER)
def imagefolder(root: Path, split: str, path: str = "", test: str = "") -> Raw:
    """Colour images in one folder a class; what they are is for you to say."""
    from torchvision.datasets import ImageFolder as Reader

    if not path:
        raise DataProblem('imagefolder needs to know which: imagefolder(path="mine/train", test="mine/test")')
    folder = root / (test if split == "test" else path)
    reader = _open(Reader, folder)
    if test and split == "test":
        expected = _open(Reader, root / path).classes
        if reader.classes != expected:
            odd = sorted(set(reader.classes) ^ set(expected))
            raise DataProblem(f"{folder} has other classes than {root / path}: {', '.join(odd[:5])}")
    files, labels = zip(*reader.samples, strict=True)
    return Raw([Path(file) for file in files], labels, reader.classes)


def _open(reader: type, folder: Path) -> Any:
    try:
        return reader(folder)
    except (FileNotFoundError, NotADirectoryError) as problem:
        raise DataProblem(f"{folder}: {problem}; one folder a class is expected") from None
