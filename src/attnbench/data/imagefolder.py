"""Any folder of images with one folder a class."""

from collections.abc import Mapping
from pathlib import Path

from attnbench.data import Raw, Source, dataset
from attnbench.data.folders import PARTS, Folder, located, parts_of
from attnbench.errors import DataProblem

FOLDER = Source(
    title="A folder of images",
    splits=("train", "test"),
    folders={"train": "path", "test": "test"},
    note='imagefolder(path="mine/train", test="mine/test"), relative to the data folder or the working directory; '
    "without test, 20 % of each class are the test split, chosen by the images' content.",
    version=2,
)


@dataset("imagefolder", FOLDER)
def imagefolder(root: Path, split: str, path: str = "", test: str = "") -> Raw:
    """Colour images in one folder a class; what they are is for you to say."""
    if not path:
        raise DataProblem('imagefolder needs to know which: imagefolder(path="mine/train", test="mine/test")')
    train = Folder.of(located(path, root))
    _check_places(train, located(test, root) if test else None)
    labels = {name: number for number, name in enumerate(train.classes)}
    if split != "test":
        learnable(train.path, train.classes, least=2)
        return train.raw(labels)
    own = Folder.of(located(test, root))
    if odd := sorted(set(own.classes) ^ set(train.classes)):
        raise DataProblem(f"{own.path} has other classes than {train.path}: {', '.join(odd[:5])}")
    learnable(own.path, own.classes, least=1)
    return own.raw(labels)


def _check_places(train: Folder, test: Path | None) -> None:
    """Refuse test images that are training images, and parts of the data that are taken for classes.

    Raises:
        DataProblem: they are.
    """
    if test is not None:
        places = train.path.resolve(), test.resolve()
        if places[0] in (places[1], *places[1].parents) or places[1] in places[0].parents:
            raise DataProblem(f"{test} and {train.path} share images: those of the test must not be trained on")
        return
    called = {name for names in PARTS.values() for name in names}
    if {name.lower() for name in train.classes} <= called and (parts := parts_of(train.path)):
        more = f', test="{parts["test"]}"' if "test" in parts else ""
        raise DataProblem(
            f"{train.path} holds the parts of a data set ({', '.join(train.classes)}) and no classes; "
            f'give imagefolder(path="{parts.get("train", next(iter(parts.values())))}"{more})'
        )


def learnable(folder: Path, classes: Mapping[str, tuple[Path, ...]], least: int) -> None:
    """Refuse classes that nothing can be learned from.

    Args:
        classes: name -> its images.
        least: how many each must have.

    Raises:
        DataProblem: one has fewer, or there is no second class.
    """
    if not any(classes.values()):
        names = ", ".join(list(classes)[:5])
        raise DataProblem(f"{folder} holds no images in its folders ({names}); one folder a class is expected")
    if few := [name for name, files in classes.items() if len(files) < least]:
        more = f" (and {len(few) - 1:,} more classes)" if len(few) > 1 else ""
        here, needed = _images(len(classes[few[0]])), _images(least)
        raise DataProblem(
            f"{folder / few[0]}{more} has {here}; a class needs at least {needed}: add some, or remove the folder"
        )
    if len(classes) < 2:
        (name,) = classes
        inner = any(item.is_dir() for item in (folder / name).iterdir())
        hint = f' (or did you mean path="{folder / name}"?)' if inner else ""
        raise DataProblem(f"{folder} has one class folder only, {name}; at least two classes are needed{hint}")


def _images(number: int) -> str:
    return f"{number} image{'s' if number != 1 else ''}"
